"""The process that workers are forked from: imports done, one thread, no socket but its lifeline to the daemon.

    daemon --fork--> template --fork--> worker, worker, ...
    daemon --exec--> template                                  where the daemon's environment is not that of workers,
                                                               or a template has died

A worker is ready some milliseconds after it is asked for, and shares the imported pages with all others. Nothing
here may start a thread or open a ZeroMQ context, since neither survives a fork. The template reaps its children and
says so: a worker that it reported as ended writes nowhere any more. It ends with the daemon, at end-of-file, and its
workers with it. Its niceness is theirs: where cores are short, the trainer comes first.

    python -m loader_service.pool.template FD ADDRESS
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from loader_service.dataset.sources import jpeg_region, npy_bodies
from loader_service.pool.engine import Template, ends_within
from loader_service.pool.worker import die_with_parent, name_process, run_worker
from loader_service.protocol.address import Address
from loader_service.protocol.lifeline import Lifeline, PeerGone
from loader_service.protocol.messages import StartWorker, WorkerEnded, WorkerStarted

NICENESS = 10  # of each worker: a tenth of a trainer's weight
SESSION_NICENESS = 5  # of a session of workers: a third; more, and other people's programs would starve them


def main(fd: int, address: str) -> None:
    """Fork workers on demand, and report their ends, until the daemon hangs up."""
    die_with_parent()
    name_process("loader-template")
    stand_back()
    daemon = Lifeline(socket.socket(fileno=fd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group: the daemon decides
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"the template has {threads} threads: a library started some when it was imported"
    jpeg_region.kernel()  # what is remembered of JPEGs is shared by all who are forked from here
    npy_bodies.keep_files()  # all who are forked from here do
    gc.freeze()  # or each worker's first collection would copy all of these pages
    workers: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([daemon.fileno(), wake_read], [], [])
        try:
            if wake_read in readable:
                os.read(wake_read, 4096)
                _reap(daemon, workers)
            if daemon.fileno() in readable:
                packet = daemon.recv(wait=True)
                if packet is not None and isinstance(packet[0], StartWorker):
                    workers[_fork(daemon, packet[0].worker, address)] = packet[0].worker
        except PeerGone:
            return  # the workers' own lifelines have ended as well; the kernel kills those that do not look


def fork_template(address: Address) -> Template:
    """Fork a template off a process that has imported everything, and started nothing, as said above."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    leads = os.getsid(0) == os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return Template(_Forked(pid), Lifeline(ours))
    try:
        if leads:
            os.setsid()  # to stand back as a session
        _keep_only(theirs.fileno())
        main(theirs.detach(), str(address))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(0)


def _keep_only(fd: int) -> None:
    """Close every descriptor but this one and stderr; prints go where errors go: see `start_template`."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))


class _Forked:
    """A child of this process that was forked: as much of `subprocess.Popen` as its parent needs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def wait(self, timeout: float | None = None) -> int:
        """Reap it."""
        handle = os.pidfd_open(self._pid)
        try:
            if not ends_within(handle, timeout):
                raise subprocess.TimeoutExpired("the template", timeout or 0)
        finally:
            os.close(handle)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)


def stand_back() -> None:
    """Run this process, and all that it forks, below the priority of others.

    Where the kernel shares cores out by session (autogroup, on most distributions), niceness counts only within one.
    The workers of a private daemon are in their trainer's session. A daemon that leads a session of its own, apart
    from all trainers, has the template lead another one, and that is made nice as a whole.
    """
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # a kernel without autogroups
            Path("/proc/self/autogroup").write_text(str(SESSION_NICENESS))


def _reap(daemon: Lifeline, workers: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        daemon.send(WorkerEnded(workers.pop(pid), status))


def _fork(daemon: Lifeline, worker: int, address: str) -> int:
    template = os.getpid()
    go, told = os.pipe()  # the daemon must know a worker before it knocks
    pid = os.fork()
    if pid == 0:
        daemon.close()
        os.close(told)
        os.read(go, 1)
        _run_child(worker, address, template)
    handle = os.pidfd_open(pid)  # before it can be reaped: nobody else can have this pid yet
    try:
        daemon.send(WorkerStarted(worker, pid), handle)
    finally:
        for fd in (handle, go, told):
            os.close(fd)
    return pid


def _run_child(worker: int, address: str, template: int) -> NoReturn:
    """Be a worker; never return into the template's code."""
    status = 1
    try:
        name_process(f"loader-worker-{worker}")
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        run_worker(Address.parse(address), template)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
