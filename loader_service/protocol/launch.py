"""Start a daemon process with exec, and hear from it when it is ready: for clients, and for the command line.

Never a fork of the caller, which may be a training process with TensorFlow's threads in it. What the daemon says on
`--ready-fd` is one line of JSON: what it serves with, or the error that kept it from serving.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from loader_service.protocol.address import Address
from loader_service.protocol.environment import environment_of_workers
from loader_service.protocol.errors import DaemonLost, error_from_plain

START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 20.0  # seconds
STDERR = 2


def launch(address: Address, options: list[str], *, log: Path | None = None) -> tuple[subprocess.Popen[bytes], Any]:
    """Start a daemon that Ctrl-C does not reach: that is for the caller; wait until its workers accept tasks.

    Args:
        options: Further options of `python -m loader_service.daemon`.
        log: File for what it and its workers print, where it goes on without us, in a session of its own; None where it
            is ours alone: it prints to our stderr then.
    Returns:
        The process, and the object that it said when it was ready.
    Raises:
        LoaderError: If it could not start; in its own words. Nothing of it is left then.
    """
    ready, theirs = os.pipe()
    command = [sys.executable, "-P", "-m", "loader_service.daemon", "--address", str(address)]
    output = os.dup(STDERR) if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [*command, *options, "--ready-fd", str(theirs)],
            pass_fds=[theirs],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment_of_workers(),  # which are forked from it: nothing is imported twice
            cwd=None if log is None else "/",  # one that goes on without us keeps no folder busy
            # Ctrl-C must not reach it; but where the kernel shares cores out by session, a daemon of ours alone is part
            # of our share, and within it its workers stand back.
            start_new_session=log is not None,
            process_group=0 if log is None else None,
        )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(theirs)
        os.close(output)
    try:
        return process, _await_ready(ready, process, "on stderr" if log is None else f"in {log}")
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a daemon stop, and wait until it is gone, workers and all."""
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_ready(ready: int, process: subprocess.Popen[bytes], words: str) -> dict[str, Any]:
    with os.fdopen(ready, "rb") as pipe:
        poll = select.poll()  # select() takes no descriptor beyond 1023, and a trainer may have more of them
        poll.register(pipe, select.POLLIN)
        if not poll.poll(START_PATIENCE * 1000):
            raise DaemonLost(
                f"a daemon was started, and was not ready after {START_PATIENCE:.0f} s; its last words are {words}"
            )
        told: dict[str, Any] = json.loads(pipe.readline() or b"{}")
    if "error" in told:
        raise error_from_plain(*told["error"])
    if "pid" not in told:
        raise DaemonLost(
            f"a daemon was started, and ended with exit code {process.wait(STOP_PATIENCE)} before it was ready; "
            f"its last words are {words}"
        )
    return told
