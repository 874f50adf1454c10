"""Run a daemon in this process: `loader-service start` and `python -m loader_service.daemon` both do."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvloop

from loader_service.config import Settings
from loader_service.daemon.loop import Daemon
from loader_service.dataset.declaration import Declaration
from loader_service.machine import raise_descriptors
from loader_service.pool.engine import Template
from loader_service.pool.template import fork_template
from loader_service.protocol.address import Address
from loader_service.protocol.environment import is_environment_of_workers


def serve(
    address: Address,
    settings: Settings,
    ready: Callable[[dict[str, Any]], None],
    *,
    datasets: Mapping[str, Declaration] | None = None,
    owner: int | None = None,
) -> None:
    """Run a daemon until it is stopped; with `owner`, at the latest until that process dies.

    Workers are forked from a template. Where this process was started with the environment that they need, and so has
    one thread, the template is forked from it, and nothing is imported twice.

    Args:
        datasets: Those that clients may ask for by name.
        ready: Called with address, pid, workers and memory (bytes) when the workers accept tasks.
    """
    raise_descriptors()
    template = fork_template(address) if is_environment_of_workers() else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(address, settings, ready, datasets or {}, owner, template))


async def _serve(
    address: Address,
    settings: Settings,
    ready: Callable[[dict[str, Any]], None],
    datasets: Mapping[str, Declaration],
    owner: int | None,
    template: Template | None,
) -> None:
    named = {name: declaration.to_plain() for name, declaration in datasets.items()}
    daemon = Daemon(address, settings, named, owner=owner, template=template)
    if owner is not None:
        _end_with(owner, daemon)
    await daemon.run(
        lambda: ready(
            {
                "address": str(address),
                "pid": os.getpid(),
                "workers": settings.worker_count(),
                "memory": daemon.memory_limit,
            }
        )
    )


def _end_with(owner: int, daemon: Daemon) -> None:
    """Stop the daemon when the process `owner` is dead; one that is only stopped is alive."""
    try:
        handle = os.pidfd_open(owner)
    except ProcessLookupError:
        daemon.stop()
        return
    asyncio.get_running_loop().add_reader(handle, daemon.stop)


class _Fields(logging.Formatter):
    """Writes `extra` fields behind the message: one line for each fact."""

    STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in self.STANDARD)
        return f"{super().format(record)} {fields}".rstrip()


def configure_logging(level: str) -> None:
    """Log to stderr, where workers' prints go as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Fields("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
