"""`loader-service stats`: read every sample of a dataset once, in workers; show, or write, what there is to know."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loader_client.loader import connect_privately
from loader_service.cli.naming import DatasetArgument, NameArgument, named_dataset
from loader_service.cli.options import JsonOption
from loader_service.cli.progress import counting
from loader_service.config import read_settings
from loader_service.dataset.statistics.gather import gather
from loader_service.dataset.statistics.stats import FieldStats, Numbers, Stats
from loader_service.protocol.errors import ConfigError

EXAMPLES = (
    "loader-service stats service.toml flowers",
    "loader-service stats service.toml flowers --field image --output stats.toml",
    "loader-service stats my_data:train --json",
)
MOST_SHOWN = 12  # channels, classes or sizes


def stats(
    dataset: DatasetArgument,
    name: NameArgument = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="Look at this field only; may be said again.", metavar="NAME")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channels", help="Each entry of this field's one axis has a mean of its own; again.", metavar="NAME"
        ),
    ] = None,
    workers: Annotated[
        str | None, typer.Option("--workers", help="Processes, or auto.", metavar="N|auto", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="TOML file to write: for normalize, and for class weights.", metavar="FILE"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count mean, std, range, classes and sizes of a dataset's fields, over every sample of epoch 0.

    Exit status 0 if all is well, 1 if a sample cannot be made or nothing can be counted, 2 if it was called wrongly.
    """
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {str(output)!r}: there is no folder {str(output.absolute().parent)!r}")
    called, made, settings = named_dataset(dataset, name)
    count = settings.worker_count() if workers is None else read_settings(workers=workers).worker_count()
    open_loader = partial(
        connect_privately, count, memory=settings.memory, task_timeout=settings.task_timeout
    )  # nobody else's: the counting ends with the command
    with counting() as bars:
        bar = bars.add_task(escape(called), total=None)
        found = gather(
            made,
            field or None,
            channels or (),
            lambda done, of: bars.update(bar, completed=done, total=of),
            open_loader,
        )
    if output is not None:
        found.save(output)
    if as_json:
        print(json.dumps({"dataset": called, **_for_json(found.to_plain())}))
    else:
        _show(found, Console(highlight=False))


def _for_json(plain: Any) -> Any:
    """Return plain data without NaN, which JSON does not have."""
    if isinstance(plain, dict):
        return {str(key): _for_json(value) for key, value in plain.items()}
    if isinstance(plain, tuple | list):
        return [_for_json(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _show(found: Stats, console: Console) -> None:
    table = Table("field", "mean", "std", "min", "max")
    for name, told in found.items():
        numbers = (_numbers(value) for value in (told.mean, told.std, told.min, told.max))
        table.add_row(f"{escape(name)}\n[dim]{told.dtype}[/]", *numbers)
    console.print(table)
    left_out = f", {found.left_out:,} that cannot be made left out" if found.left_out else ""
    console.print(f"{found.samples:,} samples{left_out}")
    for name, told in found.items():
        for line in _lines(told):
            console.print(f"{name}: {line}", markup=False, soft_wrap=True)
    for name, why in found.skipped.items():
        console.print(f"{name}: nothing to tell: {why}", markup=False, soft_wrap=True)


def _lines(told: FieldStats) -> list[str]:
    lines = []
    if told.nan or told.infinite:
        lines.append(f"{told.nan:,} NaN and {told.infinite:,} infinite numbers were left out")
    if told.classes is not None and len(told.classes) > 1:
        names = dict(enumerate(told.class_names))
        counted = [f"{names.get(number, number)} {count:,}" for number, count in told.classes.items()]
        lines.append(f"{len(counted):,} classes: {_some(counted)}")
    if told.sizes:
        more = [f"others {told.other_sizes:,}"] if told.other_sizes else []
        lines.append(f"sizes: {_some([f'{size} {count:,}' for size, count in told.sizes.items()] + more)}")
    for axis, histogram in told.axes.items():
        lines.append(f"{axis}: {histogram.edges[0]:,} to {histogram.edges[-1] - 1:,}")
    return lines


def _numbers(value: Numbers) -> str:
    values = value if isinstance(value, tuple) else (value,)
    shown = [f"{number:,.6g}" for number in values[:MOST_SHOWN]]
    return "\n".join(shown + [f"and {len(values) - MOST_SHOWN:,} more"] * (len(values) > MOST_SHOWN))


def _some(told: list[str]) -> str:
    more = f", and {len(told) - MOST_SHOWN:,} more" if len(told) > MOST_SHOWN else ""
    return ", ".join(told[:MOST_SHOWN]) + more
