"""What does the service itself take: memory beside the slots, CPU of the hand-over, CPU of the trainer's own thread?

Method   The photos of photos.py for training, read as fast as they come from a private daemon with two workers.
         Memory: PSS of daemon and workers without the arena's mapping, once a second after a warm-up; the median of the
         first and of the last tenth of the readings. `--minutes 60` shows whether it stays flat.
         Hand-over: CPU of daemon and workers a batch, less that which their own threads spend in making rows of photos,
         as a source of a user's does, which counts it; as a part of the CPU that the workers take a batch of photos.
         Messages, order and bookkeeping are all that it is, with caches as cold as decoding leaves them.
         Trainer: CPU of the thread whose loop does nothing with its batches, a batch, of photos and of a table's rows.
Not shown  the trainer's framework, the client's second thread, what a cache keeps.

    python -m benchmarks.footprint --json footprint.jsonl        (--seconds 10 --minutes 0)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.table import Table

import loader_client
from benchmarks import data, table
from benchmarks.figures import measure_cells
from benchmarks.harness import begin
from benchmarks.photos import SIZE, TRAIN
from benchmarks.sharing import cpu_of
from loader_service import Dataset

WORKERS = 2
WARM_UP = 40  # batches: all of the photos, and what is made ahead
ARENA = "memfd:loader-service arena"  # see loader_service/protocol/arena.py
MEMORY, HAND_OVER = "memory beside the slots, MiB", "hand-over, % of the workers' CPU"
TRAINER = "trainer's thread, microseconds a batch"
BARS = {MEMORY: 200.0, HAND_OVER: 5.0, TRAINER: 100.0}


class Counted:
    """A source of photos whose rows count the CPU-seconds that they take, each process in a file of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._spent: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return data.PHOTOS

    def __getitem__(self, i: int) -> dict[str, Any]:
        out = {"image": np.empty((1, SIZE, SIZE, 3), np.uint8), "label": np.empty(1, np.int64)}
        self._fill(np.array([i]), out)
        return {name: rows[0] for name, rows in out.items()}

    def read_rows(self, ids: NDArray[np.int64], out: dict[str, NDArray[Any]]) -> None:
        if self._spent is None:
            self._spent = np.memmap(Path(self._folder, str(os.getpid())), np.float64, "w+", shape=(1,))
        began = time.thread_time()
        self._fill(ids, out)
        self._spent[0] += time.thread_time() - began

    def _fill(self, ids: NDArray[np.int64], out: dict[str, NDArray[Any]]) -> None:
        for row, i in enumerate(ids.tolist()):  # each draws numbers of its own, whatever it is read with
            alone = slice(row, row + 1)
            TRAIN.fill(ids[alone], np.random.default_rng(i), out["image"][alone], out["label"][alone])

    def spent(self) -> float:
        """Return what all processes have counted."""
        return float(sum(np.fromfile(file)[0] for file in Path(self._folder).iterdir()))


class Spent:
    """The CPU-seconds that this thread, the daemon and its workers spent while so many batches came, and their rows."""

    def __init__(
        self, dataset: Dataset, seconds: float, prefetch: int, of_rows: Callable[[], float] = lambda: 0.0
    ) -> None:
        with loader_client.connect(workers=WORKERS) as loader, loader.stream(dataset, prefetch=prefetch) as stream:
            batches = forever(stream)
            for _ in range(WARM_UP):
                next(batches)
            daemon, *others = processes()
            before = cpu_of([daemon]), cpu_of(others), time.thread_time(), of_rows()
            self.batches, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                next(batches)
                self.batches += 1
            after = cpu_of([daemon]), cpu_of(others), time.thread_time(), of_rows()
        self.daemon, self.workers, self.trainer, self.rows = (b - a for a, b in zip(before, after, strict=True))


def forever(stream: loader_client.Stream) -> Iterator[loader_client.Batch]:
    while True:
        yield from stream


def processes() -> list[psutil.Process]:
    """Return the daemon, and all that it has started."""
    (daemon,) = psutil.Process().children()
    return [daemon, *daemon.children(recursive=True)]


def beside_the_slots(pid: int) -> float:
    """Return the MiB of a process's PSS that are not the arena's; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0.0
    kib, in_arena = 0, False
    for line in lines:
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            in_arena = ARENA in rest  # the first line of a mapping
        elif name == "Pss:" and not in_arena:
            kib += int(rest.split()[0])
    return kib / 1024


def memory(seconds: float, told: Callable[[float, float], None]) -> list[float]:
    """Read photos for so long, and return what daemon and workers took beside the slots, second by second, in MiB."""
    readings: list[float] = []
    with loader_client.connect(workers=WORKERS) as loader:
        batches = forever(loader.stream(TRAIN.dataset(), prefetch=TRAIN.prefetch))
        for _ in range(WARM_UP):
            next(batches)
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            next(batches)
            if now >= len(readings):
                readings.append(sum(beside_the_slots(process.pid) for process in processes()))
                told(now, readings[-1])
    return readings


def ends(readings: list[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last tenth.

    >>> ends([1.0, 2.0, 3.0])
    (1.0, 3.0)
    """
    tenth = max(1, len(readings) // 10)
    return statistics.median(readings[:tenth]), statistics.median(readings[-tenth:])


def measure(seconds: float, minutes: float, told: Callable[[float, float], None]) -> Iterator[dict[str, Any]]:
    """Yield what was found, one after the other."""
    first, last = ends(memory(60 * minutes or seconds, told))
    yield {"measure": MEMORY, "value": last, "first": first, "minutes": round(minutes or seconds / 60, 2)}
    photos = Spent(TRAIN.dataset(), seconds, TRAIN.prefetch)
    with tempfile.TemporaryDirectory() as folder:
        source = Counted(folder)
        counted = Dataset.from_python(source).shuffle(seed=7).batch(TRAIN.rows)
        rows = Spent(counted, seconds, TRAIN.prefetch, source.spent)
    cost = (rows.workers + rows.daemon - rows.rows) / rows.batches / (photos.workers / photos.batches)
    yield {"measure": HAND_OVER, "value": 100 * cost}
    numbers = Spent(table.WORK.dataset(), seconds, table.WORK.prefetch)
    for name, spent in (("photos", photos), ("table", numbers)):
        yield {"measure": TRAINER, "of": name, "value": spent.trainer / spent.batches * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.footprint", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=0.0, help="of memory alone, instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each measure")
    asked = parser.parse_args()
    machine, console = begin(cores=WORKERS)
    data.make_photos()
    data.make_table()

    def told(now: float, mib: float) -> None:
        if asked.minutes and round(now) % 60 == 0:
            console.print(f"{now / 60:.0f} minutes: {mib:.1f} MiB", highlight=False)

    found = Table("", title="what the service itself takes", title_justify="left")
    for heading in ("found", "at most"):
        found.add_column(heading, justify="right")
    for line in measure(asked.seconds, asked.minutes, told):
        line |= {"at_most": BARS[line["measure"]]}
        found.add_row(*measure_cells(line))
        if asked.json:
            with asked.json.open("a") as file:
                file.write(json.dumps({"benchmark": "benchmarks.footprint", **line, **machine}) + "\n")
    console.print(found)


if __name__ == "__main__":
    main()
