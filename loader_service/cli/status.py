"""`loader-service status`: what a daemon is doing, as tables or as one JSON object."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loader_service.cli.options import AddressOption, JsonOption, address_of, ask_status
from loader_service.protocol.messages import GetStatus

EXAMPLES = (
    "loader-service status",
    "loader-service status --json",
)
PATIENCE = 10.0  # seconds


def status(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Show workers, streams and memory. Exit status 0 while a daemon answers, 3 when none does."""
    told = ask_status(address_of(address), GetStatus(), PATIENCE)
    if as_json:
        print(json.dumps(told))
    else:
        show(told, Console(highlight=False))


def show(told: dict[str, Any], console: Console) -> None:
    """Print a status for people."""
    used, limit = told["memory"]["used"], told["memory"]["limit"]
    console.print(
        f"[bold]{told['address']}[/]  pid {told['pid']}  version {told['version']}  "
        f"shared memory {used / 2**20:,.0f} of {limit / 2**20:,.0f} MiB",
        soft_wrap=True,
    )
    workers = Table("worker", "pid", "state", "tasks", title=f"workers: {len(told['workers'])}", title_justify="left")
    for worker in told["workers"]:
        workers.add_row(str(worker["number"]), str(worker["pid"]), worker["state"], str(worker["tasks"]))
    console.print(workers)
    if not told["datasets"]:
        console.print("no streams")
        return
    datasets = Table(
        "key",
        "source",
        "samples",
        "batch",
        "slots",
        "filling",
        "lent",
        "made",
        "shared",
        "replaced",
        title="datasets",
        title_justify="left",
    )
    for dataset in told["datasets"]:
        slots = dataset["slots"]
        datasets.add_row(
            dataset["key"][:12],
            dataset["source"],
            f"{dataset['samples']:,}",
            str(dataset["batch_size"]),
            f"{slots['count']} x {slots['nbytes'] / 2**20:,.1f} MiB",
            str(slots["filling"]),
            str(slots["lent"]),
            f"{dataset['batches_made']:,}",
            f"{dataset['batches_shared']:,}",
            f"{dataset['replaced_count']:,}",
        )
    console.print(datasets)
    _show_replaced(told["datasets"], console)
    if not told["streams"]:
        console.print("no streams")
        return
    streams = Table("stream", "client pid", "key", "waits for", "holds", title="streams", title_justify="left")
    for stream in told["streams"]:
        streams.add_row(
            str(stream["stream"]),
            str(stream["client_pid"]),
            stream["key"][:12],
            str(stream["waits_for"]),
            str(stream["holds"]),
        )
    console.print(streams)


def _show_replaced(datasets: list[dict[str, Any]], console: Console) -> None:
    """Print which samples cannot be made, if there are any: of each dataset the latest."""
    replaced = Table("key", "sample", "file", "reason", title="replaced samples", title_justify="left")
    for key, samples in {dataset["key"]: dataset["replaced"] for dataset in datasets}.items():  # shards share them
        for sample in samples:
            replaced.add_row(key[:12], str(sample["id"]), escape(sample["file"]), escape(sample["reason"]))
    if replaced.row_count:
        console.print(replaced)
