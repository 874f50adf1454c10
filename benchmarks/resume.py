"""How long does it take until a training has its next batch again, when it goes on after n batches?

Method   512 JPEGs of 320 x 240; a random crop of each, scaled to 64 x 64 and mirrored half of the time; batches of 32,
         in another order each epoch. Ours: a private daemon with two workers; timed from `load_state_dict` with a state
         that says n, to the arrays of that batch being read, on a stream that is open. Each time with another seed: a
         daemon keeps what it has made. Beside it what is left to loaders that cannot begin in the middle: a PyTorch
         DataLoader with two workers that live on, and tf.data with two threads, begin anew and throw n batches away.
         Arms take turns, and start one further on in each repeat. Each batch of ours is compared with what `compute`
         makes of its number.
Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   from the state to the first batch, ms; in the same repeat against n = 0; median of 15
         ours         0             24 (18..122)         1.00
         ours         1,000         21 (15..84)          0.79
         ours         1,000,000     24 (17..53)          0.95
         DataLoader   0             58 (35..94)          1.00
         DataLoader   100        1,669 (1,593..2,062)   29.9
         tf.data      0             62 (53..115)         1.00
         tf.data      100        1,515 (1,169..2,958)   24.0
Not shown  starting a daemon, opening a dataset and building a model, which do not depend on n; more batches of
         those who skip: at that pace a million take hours.

    python -m benchmarks.resume --json resume.jsonl        (--repeats 15)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_NUM_INTEROP_THREADS="2")

import cv2
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
PAUSE = 0.3  # seconds, in which what was asked for ahead is made


def write_pictures(folder: Path) -> list[str]:
    """Write JPEG files, and return their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PICTURES):
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC))
        paths.append(str(path))
    return paths


@dataclass(frozen=True)
class Arm:
    """Somebody who goes on after n batches: `resume(n)` returns the seconds until the next one is there."""

    name: str
    n: int
    resume: Callable[[int], float]


def ours(dataset: Dataset, loader: loader_client.Loader) -> Callable[[int], float]:
    seeds = count()

    def resume(n: int) -> float:
        ordered = dataset.shuffle(seed=next(seeds)).batch(BATCH)
        stream = loader.stream(ordered)
        state = {**stream.state_dict(), "n": n}
        began = time.perf_counter()
        stream.load_state_dict(state)
        batch = next(iter(stream))
        read = batch["image"].sum()
        seconds = time.perf_counter() - began
        stream.close()
        assert batch.n == n
        assert read == ordered.compute(n)["image"].sum()
        return seconds

    return resume


def crop(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random part as (SIZE, SIZE, 3), mirrored half of the time."""
    side = int(rng.integers(80, 240))
    top, left = int(rng.integers(240 - side)), int(rng.integers(320 - side))
    part = cv2.resize(picture[top : top + side, left : left + side], (SIZE, SIZE))
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def data_loader(paths: list[str]) -> Callable[[int], float]:
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    class Pictures(TorchDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int) -> Any:
            rng = np.random.default_rng(torch.initial_seed() + i)
            return torch.from_numpy(crop(cv2.imread(paths[i]), rng))

    batches = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    next(iter(batches))  # starts the workers

    def endless() -> Iterator[Any]:
        while True:
            yield from batches

    def resume(n: int) -> float:
        began = time.perf_counter()
        next(islice(endless(), n, None)).sum()
        return time.perf_counter() - began

    return resume


def tf_data(paths: list[str]) -> Callable[[int], float]:
    import tensorflow as tf

    def load(path: Any) -> Any:
        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        side = tf.random.uniform((), 80, 240, tf.int32)
        part = tf.image.resize(tf.image.random_crop(picture, (side, side, 3)), (SIZE, SIZE))
        return tf.image.random_flip_left_right(tf.cast(part, tf.uint8))

    order = tf.data.Dataset.from_tensor_slices(paths).shuffle(PICTURES).repeat()
    batches = order.map(load, num_parallel_calls=2).batch(BATCH).prefetch(4)

    def resume(n: int) -> float:
        began = time.perf_counter()
        np.asarray(memoryview(next(iter(batches.skip(n))))).sum()
        return time.perf_counter() - began

    resume(0)
    return resume


def arms(paths: list[str], dataset: Dataset, loader: loader_client.Loader) -> list[Arm]:
    """Return all whose packages are here; a DataLoader's workers are forked before TensorFlow is loaded."""
    resume = ours(dataset, loader)
    found = [Arm("ours", n, resume) for n in (0, 10**3, 10**6)]
    for name, package, make in (("DataLoader", "torch", data_loader), ("tf.data", "tensorflow", tf_data)):
        if find_spec(package):
            skip = make(paths)
            found += [Arm(name, n, skip) for n in (0, 100)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.resume", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each arm and repeat")
    asked = parser.parse_args()
    machine, console = begin(cores=CORES)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = write_pictures(Path(folder))
        dataset = Dataset.from_image_folder(folder).random_resized_crop(SIZE, SIZE).random_flip()
        loader = stack.enter_context(loader_client.connect(workers=2))
        taking_turns = arms(paths, dataset, loader)
        found: dict[tuple[str, int], list[float]] = {(arm.name, arm.n): [] for arm in taking_turns}
        for repeat in range(-1, asked.repeats):  # the first one is to warm up
            first = repeat % len(taking_turns)
            for arm in taking_turns[first:] + taking_turns[:first]:
                time.sleep(PAUSE)
                milliseconds = arm.resume(arm.n) * 1000
                if repeat < 0:
                    continue
                found[arm.name, arm.n].append(milliseconds)
                if asked.json:
                    told = {"benchmark": "benchmarks.resume", "arm": arm.name, "n": arm.n, "repeat": repeat}
                    with asked.json.open("a") as file:
                        file.write(json.dumps({**told, "ms": milliseconds, **machine}) + "\n")
    show(found, console)


def show(found: dict[tuple[str, int], list[float]], console: Console) -> None:
    """Print medians and spreads, and the median of how much longer each took than the first batch in its repeat."""
    table = Table("", title="from the state to the first batch, ms: median (min..max)", title_justify="left")
    for heading in ("after n batches", "ms", "against n = 0"):
        table.add_column(heading, justify="right")
    for (name, n), times in found.items():
        ratio = statistics.median(time / first for time, first in zip(times, found[name, 0], strict=True))
        told = f"{statistics.median(times):,.1f} ({min(times):,.1f}..{max(times):,.1f})"
        table.add_row(name, f"{n:,}", told, f"{ratio:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
