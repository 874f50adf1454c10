"""A daemon as a process of its own: a client's private one, and that of `loader-service start --detach`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from loader_service.config import read_settings
from loader_service.daemon.serving import configure_logging, serve
from loader_service.dataset.catalog import named_datasets
from loader_service.protocol.address import Address
from loader_service.protocol.errors import LoaderError, error_to_plain


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


if __name__ == "__main__":
    sys.exit(main())
