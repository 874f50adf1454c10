"""`loader-service check`: read a config, open every dataset, make one row of each; with `--all`, make every row."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

import loader_client
from loader_service.cli.options import JsonOption
from loader_service.cli.progress import counting
from loader_service.config import load_config
from loader_service.dataset.catalog import named_datasets
from loader_service.dataset.dataset import Dataset
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.plan import Plan
from loader_service.dataset.sources.jpeg_region import WHOLE
from loader_service.dataset.user_code import explained
from loader_service.protocol.errors import ConfigError, LoaderError, nearest
from loader_service.protocol.spec import FieldSpec, describe

EXAMPLES = (
    "loader-service check service.toml",
    "loader-service check service.toml --json",
    "loader-service check service.toml --all --dataset flowers",
)


def check(
    config: Annotated[Path, typer.Argument(help="TOML file with the datasets.", show_default=False)],
    every: Annotated[
        bool, typer.Option("--all", help="Make every sample, in worker processes, and list those that cannot be made.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Look at this one only.", metavar="NAME", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Open every dataset of a config, and make one row of each, here; with --all every row, in workers of its own.

    Exit status 0 if all are sound, 1 if one is not, 2 if the config itself is wrong.
    """
    datasets = _chosen(named_datasets(config), dataset, config)
    with counting() as progress:
        found = _scan_each(datasets, config, progress) if every else _open_each(datasets, progress)
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, Console(highlight=False))
    if not all(_is_sound(told) for told in found.values()):
        raise typer.Exit(1)


def _chosen(datasets: dict[str, Declaration], name: str | None, config: Path) -> dict[str, Declaration]:
    if name is None:
        return datasets
    if name not in datasets:
        raise ConfigError(f"config {str(config)!r}: there is no dataset {name!r}; {nearest(name, datasets)}")
    return {name: datasets[name]}


def _is_sound(told: dict[str, Any]) -> bool:
    return "error" not in told and not told.get("bad")


# -- one row of each ------------------------------------------------------------------------------------------


def _open_each(datasets: dict[str, Declaration], progress: Progress) -> dict[str, dict[str, Any]]:
    found = {}
    bar = progress.add_task("", total=len(datasets))
    for name, declaration in datasets.items():
        progress.update(bar, description=f"opening {name}")
        with contextlib.redirect_stdout(sys.stderr):  # the user's functions may print
            found[name] = _open(declaration)
        progress.advance(bar)
    return found


def _open(declaration: Declaration) -> dict[str, Any]:
    """Open a dataset, and make its first row."""
    began = time.perf_counter()
    try:
        plan = Dataset(declaration).plan
        if isinstance(plan, Plan):
            plan.fill(0, 0, 1, plan.empty_rows(1))
    except Exception as error:
        return _wrong(explained(error))
    told = _describe(plan.samples, plan.batch_size, plan.batches_per_epoch, plan.spec)
    return {**told, "key": plan.key, "seconds": _seconds_since(began)}


# -- every row ------------------------------------------------------------------------------------------------


def _scan_each(datasets: dict[str, Declaration], config: Path, progress: Progress) -> dict[str, dict[str, Any]]:
    """Make every row of each dataset: in workers, since a sample may kill the process that touches it."""
    settings = load_config(config)
    logging.getLogger("loader_client").setLevel(logging.ERROR)  # what it would warn of is our result
    found = {}
    workers, memory, patience = settings.worker_count(), settings.memory, settings.task_timeout
    with _scanning(), loader_client.connect(workers=workers, memory=memory, task_timeout=patience) as loader:
        for name, declaration in datasets.items():
            bar = progress.add_task(f"opening {name}", total=None)
            found[name] = _scan(loader, declaration, name, progress, bar)
            progress.remove_task(bar)
    return found


def _scan(
    loader: loader_client.Loader, declaration: Declaration, name: str, progress: Progress, bar: TaskID
) -> dict[str, Any]:
    """Make the first epoch, as a training would, with bad samples replaced: so that all of them are found.

    Live samples cannot be replaced: the first bad one of them ends it.
    """
    began = time.perf_counter()
    scanned = Dataset(declaration)
    if not declaration.source.live:
        scanned = scanned.on_error("replace", most=1)
    if declaration.batch is not None and declaration.batch.remainder == "drop":
        scanned = scanned.batch(declaration.batch.size)
    told: dict[str, Any] = {}
    stream = None
    try:
        stream = loader.stream(scanned)
        told = _describe(stream.samples, stream.batch_size, len(stream), stream.spec)
        progress.update(bar, description=name, total=stream.samples)
        for batch in stream:
            progress.advance(bar, int((batch.ids >= 0).sum()))
    except LoaderError as error:
        told |= _wrong(error)
    if stream is not None:
        told["bad"] = [
            {"id": bad.id, "file": bad.file, "reason": bad.reason}
            for bad in sorted(stream.replaced, key=lambda bad: bad.id)
        ]
        stream.close()
    return {**told, "seconds": _seconds_since(began)}


@contextlib.contextmanager
def _scanning() -> Iterator[None]:
    """Find every bad sample anew, and leave no ledger behind; decode all of each JPEG, though a part may be wanted."""
    with tempfile.TemporaryDirectory(prefix="loader-service-check-") as folder:
        before = dict(os.environ)
        os.environ |= {"XDG_STATE_HOME": folder, WHOLE: "1"}  # the daemon inherits it
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before


# -- what was found -------------------------------------------------------------------------------------------


def _describe(samples: int, batch_size: int, batches_per_epoch: int, spec: dict[str, FieldSpec]) -> dict[str, Any]:
    return {
        "samples": samples,
        "batch_size": batch_size,
        "batches_per_epoch": batches_per_epoch,
        "spec": {name: {"shape": field.shape, "dtype": field.dtype} for name, field in spec.items()},
        "summary": describe(spec),
    }


def _wrong(error: LoaderError) -> dict[str, Any]:
    return {"error": f"{type(error).__name__}: {error}", "notes": getattr(error, "__notes__", [])}


def _seconds_since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def _show(found: dict[str, dict[str, Any]], console: Console) -> None:
    if not found:
        console.print("the config names no datasets")
        return
    table = Table("dataset", "samples", "batches", "row", "took")
    for name, told in found.items():
        if "error" in told:
            table.add_row(escape(name), "", "", "[bold red]wrong: see below[/]", "")
        else:
            batches = f"{told['batches_per_epoch']:,} x {told['batch_size']}"
            row = "\n".join(f"{field}: {spec['dtype']} {tuple(spec['shape'])}" for field, spec in told["spec"].items())
            bad = f"\n[bold red]{len(told['bad']):,} bad[/]" if told.get("bad") else ""
            table.add_row(escape(name), f"{told['samples']:,}{bad}", batches, row, f"{told['seconds']:.2f} s")
    console.print(table)
    for name, told in found.items():
        if "error" in told:
            console.print(f"[bold red]{escape(name)}[/]: ", end="")
            for text in (told["error"], *told["notes"]):
                console.print(text, markup=False, soft_wrap=True)
        for bad in told.get("bad", ()):
            line = f"sample {bad['id']} ({bad['file']}): {bad['reason']}"
            console.print(f"[bold red]{escape(name)}[/]: {escape(line)}", soft_wrap=True)
    sound = sum(_is_sound(told) for told in found.values())
    console.print(f"{sound} of {len(found)} datasets are sound")
