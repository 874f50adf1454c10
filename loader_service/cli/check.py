"""`loader-service check`: read a config, open every dataset, make one sample of each. Starts nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loader_service.cli.options import JsonOption
from loader_service.daemon.__main__ import named_datasets
from loader_service.dataset.dataset import Dataset
from loader_service.dataset.declaration import Declaration
from loader_service.protocol.errors import LoaderError
from loader_service.protocol.layout import IDS, IDS_SPEC
from loader_service.protocol.spec import describe

EXAMPLE = "loader-service check service.toml"


def check(
    config: Annotated[Path, typer.Argument(help="TOML file with the datasets.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Exit with 0 if every dataset is sound, 1 if one is not, 2 if the config cannot be read."""
    datasets = named_datasets(config)
    progress = Console(stderr=True)
    found = {
        name: _look(declaration)
        for name, declaration in track(datasets.items(), "opening", console=progress, transient=True)
    }
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
    except LoaderError as error:
        return {"error": f"{type(error).__name__}: {error}"}
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
    table = Table("dataset", "samples", "batches", "row", "opened in")
    for name, told in found.items():
        if "error" in told:
            table.add_row(name, "", "", f"[red]{told['error']}[/]", "")
        else:
            batches = f"{told['batches_per_epoch']:,} x {told['batch_size']}"
            table.add_row(name, f"{told['samples']:,}", batches, told["summary"], f"{told['seconds']:.2f} s")
    console.print(table if found else "the config names no datasets")
