"""How a daemon is watched by those who do it harm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from loader_service import __version__
from loader_service.protocol.address import Address
from loader_service.protocol.link import Link
from loader_service.protocol.messages import GetStatus
from tests.waiting import PATIENCE, wait_until


def status_of(address: str) -> dict[str, Any]:
    """Return what `loader-service status --json` prints, without starting a process for it."""
    link = Link(Address.parse(address), "client", __version__)
    try:
        status: dict[str, Any] = link.ask(GetStatus(), PATIENCE).status
    finally:
        link.close()
    return status


def workers_of(address: str) -> list[int]:
    """Return the pids of the workers that accept tasks."""
    return [worker["pid"] for worker in status_of(address)["workers"] if worker["state"] in ("ready", "busy")]


def family_of(daemon: int) -> list[psutil.Process]:
    """Return the template of a daemon, and after it the workers."""
    return psutil.Process(daemon).children(recursive=True)


def shared_memory(pid: int) -> int:
    """Return the bytes of all memfds that a process has open."""
    total = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()).startswith("/memfd:loader-service"):
                total += entry.stat().st_blocks * 512
    return total


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: Iterable[psutil.Process], seconds: float = 5.0) -> None:
    """Wait until none of them is alive."""
    left = list(processes)
    wait_until(lambda: not any(map(is_alive, left)), seconds, f"the end of {left}")


class Violation(Exception):
    """Something was lost, repeated, changed, or left over: a sentence."""
