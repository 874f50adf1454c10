"""The local engine: starts the template, has it fork workers, kills those that must go.

It decides nothing about work. What it tells the daemon are two facts: a worker was started, a worker has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

from loader_service.protocol.address import Address
from loader_service.protocol.environment import environment_of_workers
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.lifeline import Lifeline, PeerGone
from loader_service.protocol.messages import StartWorker, WorkerEnded, WorkerStarted

STACK_SIGNAL = signal.SIGUSR1  # has a worker write its stack to the daemon's log


@dataclass(frozen=True)
class Started:
    """Fact: the worker runs; it has yet to join."""

    worker: int
    pid: int


@dataclass(frozen=True)
class Ended:
    """Fact: the worker is dead; `how` says of what, in words."""

    worker: int
    how: str


class TemplateProcess(Protocol):
    """The process that workers are forked from, as its parent holds it: `subprocess.Popen` is one."""

    def wait(self, timeout: float | None = None) -> int:
        """Reap it."""

    def kill(self) -> None:
        """Kill it."""


@dataclass(frozen=True)
class Template:
    """The template, and the lifeline to it."""

    process: TemplateProcess
    lifeline: Lifeline


def start_template(address: Address) -> Template:
    """Start a template with exec: it imports everything anew."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "loader_service.pool.template", str(theirs.fileno()), str(address)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # the daemon's own stdout carries its ready line, and nothing else
            env=environment_of_workers(),
            start_new_session=os.getsid(0) == os.getpid(),  # to stand back as a session: see template.py
        )
    return Template(process, Lifeline(ours))


class LocalEngine:
    """Worker processes of this machine.

    After `close`, neither the template nor any worker is left.
    """

    def __init__(self, address: Address, template: Template | None = None) -> None:
        """Fork workers from `template`; from a new one, where None."""
        made = template or start_template(address)
        self._template, self._lifeline = made.process, made.lifeline
        self._handles: dict[int, int] = {}  # worker -> pidfd
        self._asked: set[int] = set()  # workers that were asked for and have not been started yet

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when `facts` has something to tell."""
        return self._lifeline.fileno()

    def start(self, worker: int) -> None:
        """Ask for a worker; `Started` follows, or `Ended` if the template is gone."""
        self._asked.add(worker)
        try:
            self._lifeline.send(StartWorker(worker))
        except PeerGone:
            return  # `facts` will meet the end of file

    def log_stack(self, worker: int) -> None:
        """Have a worker write down where it is; one that is stopped, or deep in the kernel, does not."""
        if worker in self._handles:
            _signal(self._handles[worker], STACK_SIGNAL)

    def kill(self, worker: int) -> None:
        """Kill a worker; `Ended` follows."""
        if worker in self._handles:
            _signal(self._handles[worker], signal.SIGKILL)

    def facts(self) -> list[Started | Ended]:
        """Return what has happened since the last call.

        Raises:
            PeerGone: If the template has died: workers that it forked are killed, and have ended.
        """
        facts: list[Started | Ended] = []
        while (packet := self._lifeline.recv(wait=False)) is not None:
            message, fd = packet
            match message:
                case WorkerStarted():
                    assert fd is not None, "a pidfd comes with every worker"
                    self._handles[message.worker] = fd
                    self._asked.discard(message.worker)
                    facts.append(Started(message.worker, message.pid))
                case WorkerEnded():
                    os.close(self._handles.pop(message.worker))
                    facts.append(Ended(message.worker, how_it_ended(message.status)))
                case _:
                    raise ProtocolError(f"the template sent {message!r}")
        return facts

    def close(self, patience: float = 5.0) -> list[int]:
        """End the template and every worker. Return the workers that this ended."""
        ended = [*self._handles, *self._asked]
        self._lifeline.close()
        for handle in self._handles.values():
            _signal(handle, signal.SIGKILL)
        try:
            self._template.wait(patience)
        except subprocess.TimeoutExpired:
            self._template.kill()
            self._template.wait()
        for handle in self._handles.values():
            _wait_for_end(handle, patience)
            os.close(handle)
        self._handles.clear()
        self._asked.clear()
        return ended


def _signal(handle: int, number: signal.Signals) -> None:
    """Signal the process behind a pidfd, unless it is dead already."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def ends_within(handle: int, patience: float | None) -> bool:
    """Whether the process behind a pidfd is dead after so many seconds at most; it is not reaped."""
    poll = select.poll()  # select() takes no descriptor beyond 1023
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(None if patience is None else patience * 1000))


def _wait_for_end(handle: int, patience: float) -> None:
    """Wait until the process behind a pidfd is dead: it writes nothing any more.

    Its parent, the template, is dead. Where the daemon is process 1 of a container, it has inherited the child, and has
    to reap it.
    """
    ends_within(handle, patience)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)


def how_it_ended(status: int) -> str:
    """Return a wait status in words.

    >>> how_it_ended(9), how_it_ended(256)
    ('killed by SIGKILL', 'ended with exit code 1')
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        named = number in list(signal.Signals)  # most real-time signals have no name
        return f"killed by {signal.Signals(number).name if named else f'signal {number}'}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"
