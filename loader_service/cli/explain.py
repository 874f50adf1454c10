"""`loader-service explain`: what will run for a dataset, and what it takes. Starts nothing."""

from __future__ import annotations

import json

from rich.console import Console

from loader_service.cli.naming import DatasetArgument, NameArgument, at_work, named_dataset
from loader_service.cli.options import JsonOption

EXAMPLES = (
    "loader-service explain service.toml",
    "loader-service explain service.toml flowers --json",
)


def explain(where: DatasetArgument, name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Open a dataset, and tell the plan that will run: steps, sizes, order, memory, and what the key is made of."""
    name, dataset, _ = named_dataset(where, name)
    with at_work(f"opening {name}"):
        told = dataset.explain()
    if as_json:
        print(json.dumps({"name": name, **told.plain}))
    else:
        console = Console(highlight=False)
        for line in f"{'dataset':12}{name}\n{told}".splitlines():
            word, rest = line[:12], line[12:]
            console.print(f"[bold]{word}[/]", end="")
            console.print(rest, markup=False, soft_wrap=True)
