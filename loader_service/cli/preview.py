"""`loader-service preview`: draw some samples of a dataset, as they are and as the model gets them. Starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loader_service.cli.naming import DatasetArgument, NameArgument, at_work, named_dataset
from loader_service.cli.options import JsonOption
from loader_service.dataset.preview.preview import check_output
from loader_service.dataset.preview.samples import MOST_EPOCHS, MOST_SAMPLES

EXAMPLES = (
    "loader-service preview service.toml -o preview.png",
    "loader-service preview service.toml flowers --n 8 --epochs 6 -o flowers.jpg",
    "loader-service preview service.toml scans --field image --seed 3",
)


def preview(
    where: DatasetArgument,
    name: NameArgument = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes: .png, .jpg or .webp.")] = Path(
        "preview.png"
    ),
    n: Annotated[int, typer.Option("--n", min=1, max=MOST_SAMPLES, help="Samples: the first of the epoch.")] = 4,
    epoch: Annotated[int, typer.Option(min=0, help="The epoch whose order and random numbers come first.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, max=MOST_EPOCHS, help="How many epochs' random numbers.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, help="In place of the dataset's own: shuffles anew.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="Draw this field; may be said several times.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw samples of a dataset: each as its source has it, beside what the model gets of it in several epochs."""
    check_output(output)
    name, dataset, _ = named_dataset(where, name)
    with at_work(f"making {n} samples of {name}"):
        made = dataset.preview(n, epoch=epoch, epochs=epochs, seed=seed, field=field or ())
        made.save(output)
    if as_json:
        print(json.dumps({"name": name, "output": str(output.absolute()), **made.sheet.to_plain()}))
    else:
        height, width = made.picture.shape[:2]
        Console(highlight=False).print(
            f"{output}: {name}: {made.sheet.title}, {width} x {height} pixels", soft_wrap=True
        )
