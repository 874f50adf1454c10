"""Does a training that computes all the time get slower when more workers stand ready to load for it?

Method   `fit` of a small convolutional network, on two cores, with TensorFlow's own choice of threads: a step takes
         several times what two cores need to load its batch, so that no step waits. Arms: batches that lie ready in
         this process; ours, with 1, 2, 4 and 8 workers, a private daemon each, all of them up from start to end. One
         compiled model. An arm's turn is short: two steps, then those that are timed; then a pause, in which what was
         asked for ahead is made. Arms take turns, and start one further on in each repeat. Compared is the time of a
         step with that of one worker in the same repeat: the machine's other work falls on both.
Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   a step, ms; in the same repeat against 1 worker; median of 40
         in this process   106 (76..201)    -9.0%
         1 worker          111 (79..207)    +0.0%
         2 workers         115 (88..179)    +1.7%
         4 workers         116 (93..176)    +4.3%
         8 workers         122 (91..233)    +7.3%
         In each arm the median wait for data was at most 0.6 ms a step.
Not shown  a training on a GPU, whose own threads are few; a second training beside it.

    python -m benchmarks.manners --json manners.jsonl        (--steps 10 --repeats 40)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")

import cv2
import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import loader_client
from benchmarks.harness import begin
from loader_service import Dataset

CORES = 2
BATCH = 32
SIZE = 64  # pixels
PICTURES = 512
WARM_UP = 2  # steps
PAUSE = 0.2  # seconds
WORKERS = (1, 2, 4, 8)


def pictures(folder: Path) -> Dataset:
    """Write JPEG files, and declare what is loaded of them."""
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC))
    dataset = Dataset.from_image_folder(folder).random_resized_crop(SIZE, SIZE).random_flip()
    return dataset.shuffle(seed=1).batch(BATCH, remainder="drop")


def network() -> Any:
    """Return a model whose step keeps both cores busy."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(48, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@dataclass(frozen=True)
class Arm:
    """Where batches come from: `feed()` is what `fit` takes for one turn."""

    workers: int
    feed: Callable[[], Any]
    waited: Callable[[], float]  # seconds, all turns together


def ours(dataset: Dataset, loader: loader_client.Loader, workers: int, steps: int) -> Arm:
    stream = loader.stream(dataset)
    adapter = stream.keras(steps=WARM_UP + steps)
    return Arm(workers, lambda: adapter, lambda: stream.stats()["waited_seconds"])


def in_this_process(dataset: Dataset, steps: int) -> Arm:
    ready = [(batch["image"], batch["label"]) for batch in map(dataset.compute, range(dataset.batches_per_epoch))]
    return Arm(0, lambda: (ready[step % len(ready)] for step in range(WARM_UP + steps)), lambda: 0.0)


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes when the warm-up is over and when the last step is, and how long was waited until then."""

    def __init__(self, waited: Callable[[], float], steps: int) -> None:
        super().__init__()
        self._waited, self._last = waited, WARM_UP + steps - 1
        self.notes: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch in (WARM_UP - 1, self._last):
            self.notes.append((time.perf_counter(), self._waited()))


def measure(model: Any, arm: Arm, steps: int) -> dict[str, float]:
    """Train for one turn; return the milliseconds of a step, and of these how long it waited for data."""
    clock = Clock(arm.waited, steps)
    known = None if arm.workers else WARM_UP + steps  # a generator does not know its length
    model.fit(arm.feed(), steps_per_epoch=known, shuffle=False, verbose=0, callbacks=[clock])
    time.sleep(PAUSE)
    step, waiting = (float(after - before) / steps * 1000 for before, after in zip(*clock.notes, strict=True))
    return {"step_ms": step, "waited_ms": waiting}


def loading_ms(dataset: Dataset) -> float:
    """Return the milliseconds that one core needs to make a batch."""
    dataset.compute(0)
    began = time.perf_counter()
    for n in range(1, 9):
        dataset.compute(n)
    return (time.perf_counter() - began) / 8 * 1000


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.manners", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="timed, of each arm in each repeat")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each arm and repeat")
    asked = parser.parse_args()
    machine, console = begin(cores=CORES)
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in (0, *WORKERS)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as daemons:
        dataset, model = pictures(Path(folder)), network()
        console.print(f"loading a batch takes one core {loading_ms(dataset):.1f} ms")
        arms = [in_this_process(dataset, asked.steps)]
        for workers in WORKERS:
            loader = daemons.enter_context(loader_client.connect(workers=workers))
            arms.append(ours(dataset, loader, workers, asked.steps))
        for arm in arms:
            measure(model, arm, asked.steps)  # TensorFlow compiles, datasets are opened
        for repeat in range(asked.repeats):
            for arm in arms[repeat % len(arms) :] + arms[: repeat % len(arms)]:
                line = measure(model, arm, asked.steps)
                found[arm.workers].append(line)
                if asked.json:
                    told = {"benchmark": "benchmarks.manners", "workers": arm.workers, "repeat": repeat, **line}
                    with asked.json.open("a") as file:
                        file.write(json.dumps({**told, **machine}) + "\n")
    show(found, console)


def show(found: dict[int, list[dict[str, float]]], console: Console) -> None:
    """Print medians and spreads, and the median of how much slower each was than one worker of the same repeat."""
    table = Table("batches from", title="a step of `fit`, ms: median (min..max)", title_justify="left")
    for heading in ("step", "of it waiting", "against 1 worker"):
        table.add_column(heading, justify="right")
    for workers, lines in found.items():
        steps = [line["step_ms"] for line in lines]
        waited = statistics.median(line["waited_ms"] for line in lines)
        slower = [line["step_ms"] / alone["step_ms"] - 1 for line, alone in zip(lines, found[1], strict=True)]
        table.add_row(
            f"ours, {workers} workers" if workers else "this process, ready",
            f"{statistics.median(steps):.1f} ({min(steps):.1f}..{max(steps):.1f})",
            f"{waited:.2f}",
            f"{statistics.median(slower):+.1%}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
