"""`loader-service scale`: change the number of worker processes, under load."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from loader_service.cli.options import AddressOption, JsonOption, address_of, ask_status
from loader_service.cli.status import show
from loader_service.protocol.messages import Scale

EXAMPLES = (
    "loader-service scale 4",
    "loader-service scale 1 --address ipc:///tmp/my-loader",
)
PATIENCE = 60.0  # seconds: a worker that is sent away first ends its tasks


def scale(
    workers: Annotated[int, typer.Argument(min=1, max=4096, help="Worker processes from now on.", metavar="N")],
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run N workers, and return when they do. No batch is lost, repeated or changed."""
    told = ask_status(address_of(address), Scale(workers), PATIENCE)
    if as_json:
        print(json.dumps(told))
    else:
        show(told, Console(highlight=False))
