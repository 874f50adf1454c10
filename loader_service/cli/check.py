"""`loader-service check`: read a config, open every dataset, make one sample of each. Starts nothing."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from loader_service.cli.options import JsonOption
from loader_service.daemon.__main__ import named_datasets
from loader_service.dataset.dataset import Dataset
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.user_code import explained
from loader_service.protocol.layout import IDS, IDS_SPEC
from loader_service.protocol.spec import describe

EXAMPLES = (
    "loader-service check service.toml",
    "loader-service check service.toml --json",
)


def check(
    config: Annotated[Path, typer.Argument(help="TOML file with the datasets.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Open every dataset of a config, and make one row of each; start nothing.

    Exit status 0 if all are sound, 1 if one is not, 2 if the config itself is wrong.
    """
    datasets = named_datasets(config)
    found: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(datasets))
        for name, declaration in datasets.items():
            progress.update(bar, description=f"opening {name}")
            with contextlib.redirect_stdout(sys.stderr):  # the user's functions may print
                found[name] = _look(declaration)
            progress.advance(bar)
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, Console(highlight=False))
    if any("error" in told for told in found.values()):
        raise typer.Exit(1)


def _look(declaration: Declaration) -> dict[str, Any]:
    """Open a dataset, and make its first row."""
    began = time.perf_counter()
    try:
        plan = Dataset(declaration).plan
        row = {name: np.empty((1, *field.shape), field.dtype) for name, field in {**plan.spec, IDS: IDS_SPEC}.items()}
        plan.fill(0, 0, 1, row)
    except Exception as error:
        told = explained(error)
        return {"error": f"{type(told).__name__}: {told}", "notes": getattr(told, "__notes__", [])}
    return {
        "samples": plan.samples,
        "batch_size": plan.batch_size,
        "batches_per_epoch": plan.batches_per_epoch,
        "spec": {name: {"shape": field.shape, "dtype": field.dtype} for name, field in plan.spec.items()},
        "summary": describe(plan.spec),
        "key": plan.key,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _show(found: dict[str, dict[str, Any]], console: Console) -> None:
    if not found:
        console.print("the config names no datasets")
        return
    table = Table("dataset", "samples", "batches", "row", "took")
    wrong = {name: told for name, told in found.items() if "error" in told}
    for name, told in found.items():
        if name in wrong:
            table.add_row(escape(name), "", "", "[bold red]wrong: see below[/]", "")
        else:
            batches = f"{told['batches_per_epoch']:,} x {told['batch_size']}"
            row = "\n".join(f"{field}: {spec['dtype']} {tuple(spec['shape'])}" for field, spec in told["spec"].items())
            table.add_row(escape(name), f"{told['samples']:,}", batches, row, f"{told['seconds']:.2f} s")
    console.print(table)
    for name, told in wrong.items():
        console.print(f"[bold red]{escape(name)}[/]: ", end="")
        for text in (told["error"], *told["notes"]):
            console.print(text, markup=False, soft_wrap=True)
    console.print(f"{len(found) - len(wrong)} of {len(found)} datasets are sound")
