"""How does it grow: with workers, with the size of the dataset, of batches, and with the number of clients?

Workers: as many as there are cores, and fewer, beside as many bare processes that do the same work in the same run.
The photos of photos.py for training, where both decode, and the Python of python.py, which is nothing but work.

All else is about the cost of a sample, in CPU seconds of all processes, with two workers. Dataset size: a mapped array
of 8 bytes a row with labels in memory, 1,000 to 10,000,000 of them, shuffled, batches of 256; what grows is the time to
the first batch, by what it takes to hash the labels. Batch size: the rows of 128 bytes of table.py, 1 to 4,096 a batch.
Clients: 1 to 32 processes read that table from one daemon, each in an order of its own, so that none shares with
others; what a client costs besides is that there are more processes than cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data, photos, python, table
from benchmarks.arms import Arm, Case, Counter, Drive, Epochs, counting, reading, touch
from benchmarks.examiner import Examiner
from benchmarks.harness import main
from benchmarks.meter import Meter
from benchmarks.peers import bare, ours
from benchmarks.sharing import a_daemon
from benchmarks.work import Work

SIZES = tuple(10**power for power in range(3, 8))  # samples
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)  # rows
CLIENTS = (1, 2, 4, 8, 16, 32)


def worker_counts(cores: int) -> list[int]:
    """Return 1, 2, 4, ... and the number of cores.

    >>> worker_counts(6)
    [1, 2, 4, 6]
    """
    return sorted({cores, *(2**power for power in range(cores.bit_length()))})


class Numbers(Work):
    """Rows of 8 bytes, which tell their own number."""

    rows = 256
    x = ((), np.int64)
    y = ((), np.int64)

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def dataset(self) -> Any:
        from loader_service import Dataset

        source = Dataset.from_arrays(x=data.numbers(self.samples), y=self.in_order())
        return source.shuffle(seed=7).batch(self.rows)

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert np.array_equal(x, ids), "the numbers are not those of the rows"


class Rows(table.Table):
    """The table, in batches of another size, and in another order for each seed."""

    def __init__(self, rows: int, seed: int = 7) -> None:
        self.rows, self._seed = rows, seed

    def dataset(self) -> Any:
        from loader_service import Dataset

        return Dataset.from_arrays(x=table.PATH, y=labels()).shuffle(seed=self._seed).batch(self.rows)


@cache
def labels() -> np.ndarray:
    return np.arange(data.TABLE[0])


def clients(count: int) -> Drive:
    """Drive so many processes that read from one daemon."""

    def drive(meter: Meter) -> None:
        import loader_client  # noqa: F401  # once, and not in each of them

        with a_daemon() as (address, _):
            counting(lambda: partial(read, address), Rows(256).rows, count)(meter)

    return drive


def read(address: str, client: int, made: Counter) -> None:
    import loader_client

    work = Rows(256, seed=client)
    with loader_client.connect(address) as loader:
        stream = loader.stream(work.dataset(), prefetch=work.prefetch)
        while True:
            for batch in stream:
                for array in batch.values():
                    touch(array)
                made.value += 1


def with_workers(name: str, work: Work, workers: int, prepare: Callable[[], object]) -> Case:
    plural = "" if workers == 1 else "s"
    bare_name = f"floor: {workers} bare process{plural and 'es'}, nobody reads"
    arms = [
        arm(f"loader-service, {workers} worker{plural}", partial(ours.epochs, work, workers=workers), work, workers),
        Arm(bare_name, bare.floor(work, workers), at=workers),
    ]
    return Case(
        f"{name}, {workers} worker{plural}",
        work.nbytes,
        work.rows,
        arms,
        prepare=prepare,
        short=(name, workers) == ("photos", 2),
    )


def arm(name: str, epochs: Callable[[], Epochs], work: Work, at: int) -> Arm:
    return Arm(name, reading(epochs, Examiner(work)), at=at)


def sized(size: int) -> Arm:
    work = Numbers(size)
    return arm(f"loader-service, {size:,} samples", partial(ours.epochs, work), work, size)


def batched(rows: int) -> Arm:
    work = Rows(rows)
    return arm(f"loader-service, batches of {rows:,}", partial(ours.epochs, work), work, rows)


def joined(count: int) -> Arm:
    return Arm(f"loader-service, {count} client{'s' * (count > 1)}", clients(count), at=count)


def grown(name: str, work: Work, arms: list[Arm], prepare: Callable[[], object]) -> Case:
    return Case(name, work.nbytes, work.rows, arms, prepare=prepare, short=False)


CASES = [
    *(
        with_workers(name, work, workers, prepare)
        for name, work, prepare in (("photos", photos.TRAIN, data.make_photos), ("python", python.WORK, lambda: None))
        for workers in worker_counts(len(os.sched_getaffinity(0)))
    ),
    grown("dataset size", Numbers(1), [sized(size) for size in SIZES], partial(data.make_numbers, SIZES)),
    grown("batch size", table.WORK, [batched(rows) for rows in BATCHES], data.make_table),
    grown("clients", table.WORK, [joined(count) for count in CLIENTS], data.make_table),
]

if __name__ == "__main__":
    main("benchmarks.scaling", __doc__ or "", CASES)
