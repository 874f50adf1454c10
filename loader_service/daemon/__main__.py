"""Run a daemon in this process: `loader-service start`, and clients that start a private one, end up here."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from loader_service.config import Settings, load_config, read_settings
from loader_service.daemon.loop import Daemon
from loader_service.dataset.catalog import declare_all
from loader_service.dataset.declaration import Declaration
from loader_service.machine import raise_descriptors
from loader_service.protocol.address import Address
from loader_service.protocol.errors import LoaderError, error_to_plain


def serve(
    address: Address,
    settings: Settings,
    ready: Callable[[dict[str, Any]], None],
    *,
    datasets: Mapping[str, Declaration] | None = None,
    owner: int | None = None,
) -> None:
    """Run a daemon until it is stopped; with `owner`, at the latest until that process dies.

    Args:
        datasets: Those that clients may ask for by name.
        ready: Called with address, pid, workers and memory (bytes) when the workers accept tasks.
    """
    raise_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(address, settings, ready, datasets or {}, owner))


async def _serve(
    address: Address,
    settings: Settings,
    ready: Callable[[dict[str, Any]], None],
    datasets: Mapping[str, Declaration],
    owner: int | None,
) -> None:
    named = {name: declaration.to_plain() for name, declaration in datasets.items()}
    daemon = Daemon(address, settings, named, owner=owner)
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


def main(arguments: list[str] | None = None) -> int:
    """Serve; report readiness, or why there is none, as one line of JSON on the descriptor `--ready-fd`."""
    parser = argparse.ArgumentParser(prog="python -m loader_service.daemon")
    parser.add_argument("--address", required=True)
    parser.add_argument("--config", type=Path, help="TOML file with the datasets that are served by name")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--memory")
    parser.add_argument("--task-timeout")
    parser.add_argument("--worker-memory")
    parser.add_argument("--owner", type=int, help="end when this process dies")
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--log-level", default="INFO")
    options = parser.parse_args(arguments)
    configure_logging(options.log_level)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a background job may not stop for printing to its terminal

    def report(told: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(options.ready_fd, "w") as pipe:
            pipe.write(json.dumps(told) + "\n")

    try:
        settings = read_settings(
            workers=options.workers,
            memory=options.memory,
            task_timeout=options.task_timeout,
            worker_memory=options.worker_memory,
        )
        datasets = named_datasets(options.config) if options.config else {}
        serve(Address.parse(options.address), settings, report, datasets=datasets, owner=options.owner)
    except LoaderError as error:
        report({"error": error_to_plain(error)})
        return 1
    return 0


def named_datasets(config: Path) -> dict[str, Declaration]:
    """Return the datasets of a config file.

    Raises:
        ConfigError: If something is wrong with it.
    """
    return declare_all(load_config(config).datasets, config)


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


if __name__ == "__main__":
    sys.exit(main())
