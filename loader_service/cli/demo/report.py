"""What the demo has to say: a table, a picture, one JSON object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib.figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.table import Table

from loader_service.cli.demo.digits import Pictures
from loader_service.cli.demo.training import Training

COLORS = {"loader-service": "#0b6e4f", "Keras PyDataset": "#c8553d"}


def show(trainings: tuple[Training, ...], output: Path, console: Console) -> None:
    """Print the table."""
    table = Table(title="one network, trained twice from the same start", title_justify="left")
    table.add_column("batches from", no_wrap=True)
    for heading in ("accuracy", "images/s", "waited", "training took"):
        table.add_column(heading, justify="right", no_wrap=True)
    for training in trainings:
        table.add_row(
            training.loader,
            f"{training.accuracies[-1]:.1%}",
            f"{training.steady(training.speeds):,.0f}",
            f"{training.steady(training.waiting_shares):.1%}",
            f"{training.whole_seconds:.1f} s",
        )
    console.print(table)
    console.print(
        "accuracy: of pictures that were not trained on. images/s, and waited, the share of the time in which the\n"
        "trainer stood still for want of data: medians of the epochs after the first, in which TensorFlow compiles.",
        soft_wrap=True,
    )
    console.print(f"curves: {output}", soft_wrap=True)


def draw(trainings: tuple[Training, ...], output: Path) -> None:
    """Write the picture: three curves for each training, over its epochs."""
    figure = matplotlib.figure.Figure(figsize=(12, 4.2), layout="constrained")
    accuracy, speed, waiting = figure.subplots(1, 3)
    for training in trainings:
        epochs = list(range(1, len(training.accuracies) + 1))
        look: dict[str, Any] = {"color": COLORS[training.loader], "marker": "o", "markersize": 4, "linewidth": 2}
        accuracy.plot(epochs, training.accuracies, label=training.loader, **look)
        later = slice(1 if len(epochs) > 1 else 0, None)  # TensorFlow compiles in the first
        speed.plot(epochs[later], training.speeds[later], **look)
        waiting.plot(epochs[later], training.waiting_shares[later], **look)
    accuracy.set_title("validation accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    accuracy.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # whole percents
    accuracy.legend(loc="lower right", frameon=False)
    speed.set_title("images per second, training")
    speed.yaxis.set_major_formatter("{x:,.0f}")
    speed.set_ylim(bottom=0)
    waiting.set_title("share of the time spent waiting for data")
    waiting.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    waiting.set_ylim(bottom=0, top=max(0.1, waiting.get_ylim()[1]))
    for axes in (accuracy, speed, waiting):
        axes.set_xlabel("epoch" if axes is accuracy else "epoch (TensorFlow compiles in the first)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("One small network, the same handwritten digits, two loaders", fontsize=14)
    figure.savefig(output, dpi=110)


def as_plain(
    trainings: tuple[Training, ...], pictures: Pictures, *, epochs: int, workers: int, output: Path
) -> dict[str, Any]:
    """Return the result as plain data."""
    ours, theirs = trainings
    return {
        "pictures": pictures.count,
        "epochs": epochs,
        "workers": workers,
        "cores": len(os.sched_getaffinity(0)),
        "output": str(output),
        "loader_service": _plain(ours),
        "keras": _plain(theirs),
    }


def _plain(training: Training) -> dict[str, Any]:
    return {
        "accuracy": training.accuracies[-1],
        "images_per_second": training.steady(training.speeds),
        "waiting_share": training.steady(training.waiting_shares),
        "seconds": training.whole_seconds,
        "accuracies": training.accuracies,
        "epoch_seconds": training.seconds,
        "epoch_waited_seconds": training.waited,
    }
