"""Arms: the ways of doing the same work that a benchmark compares, and how one is driven.

An arm hands batches to a `Meter`, tells it where epochs end, and stops when the meter has seen enough. Three kinds:

    reading(epochs)     the usual one: an iterator of epochs, each an iterable of (x, y); every batch is touched, alike
    counting(fill)      bare processes fill shared memory as fast as they can; nobody reads, nobody is told
    fitting(...)        Keras draws the batches itself: benchmarks/fit.py
"""

from __future__ import annotations

import contextlib
import importlib.util
import mmap
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from ctypes import c_longlong
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np

from benchmarks.meter import Meter

Batch = tuple[Any, ...]  # arrays with one row for each sample
Epochs = Iterator[Iterable[Batch]]
Drive = Callable[[Meter], None]
PAGE = 4096  # bytes


@dataclass(frozen=True)
class Arm:
    """One way of doing it; `needs` names a module that may be missing."""

    name: str
    drive: Drive
    needs: str | None = None
    short: bool = True  # whether the short form of all benchmarks has it
    at: int | None = None  # where the arms of a case differ by a number alone: how many workers, samples, rows, clients

    @property
    def is_here(self) -> bool:
        try:
            return self.needs is None or importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:  # not even the package that the module is in
            return False


@dataclass(frozen=True)
class Case:
    """Arms that answer one question; the first of them is ours, and all others are compared with it."""

    name: str
    nbytes: int  # of a batch
    rows: int
    arms: list[Arm]
    unit: str = "samples"  # or "batches": what the tables count
    remarks: dict[str, Any] = field(default_factory=dict)  # what else a reader of the figures must know
    prepare: Callable[[], object] = lambda: None  # makes the data, unless it is there
    short: bool = True  # whether the short form of all benchmarks has it


class Sees(Protocol):
    """What looks at the batches of the first epoch; see `Examiner`."""

    def saw(self, batch: Batch) -> None: ...

    def epoch_ended(self) -> None: ...

    def warm_up_ended(self) -> None: ...


def reading(epochs: Callable[[], Epochs], examiner: Sees, *, has_epochs: bool = True) -> Drive:
    """Drive an arm that hands batches over one by one."""

    def drive(meter: Meter) -> None:
        meter.has_epochs = has_epochs
        meter.before_timing = examiner.warm_up_ended
        with contextlib.closing(as_generator(epochs())) as passes:
            for epoch in passes:
                for batch in epoch:
                    for array in batch:
                        touch(array)
                    if meter.warming:
                        examiner.saw(batch)
                    meter.saw(len(batch[0]))
                    if meter.over:
                        return
                if meter.warming:
                    examiner.epoch_ended()
                meter.epoch_ended()

    return drive


def as_generator(epochs: Epochs) -> Generator[Iterable[Batch], None, None]:
    """Have a `close()`, whatever the iterator is."""
    yield from epochs


def touch(array: Any) -> Any:
    """What every reader does with an array: add up one number of each page of memory."""
    return array.reshape(-1)[:: max(1, PAGE // array.itemsize)].sum()


def cut(batches: Iterator[Batch], length: int) -> Epochs:
    """Say where the epochs of an endless iterator end: after so many batches, by count alone."""
    while True:
        yield islice(batches, length)


# -- bare processes ----------------------------------------------------------------------------------------------

fork = multiprocessing.get_context("fork")


class Counter(Protocol):
    """A number in shared memory that one process counts up."""

    value: int


Fill = Callable[[int, Counter], None]


@contextlib.contextmanager
def processes(*targets: Callable[[], None]) -> Iterator[None]:
    """Run functions that never return, each in a fork of this process."""
    running = [fork.Process(target=target, daemon=True) for target in targets]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def counting(prepare: Callable[[], Fill], rows: int, workers: int = 2) -> Drive:
    """Drive processes that make batches which nobody else reads; see what they have counted, now and then.

    `prepare` returns what each of them runs: it is told its number, and the counter to raise by one for each batch.
    """

    def drive(meter: Meter) -> None:
        meter.has_epochs = False
        fill = prepare()
        counters = [fork.RawValue(c_longlong) for _ in range(workers)]
        seen = 0
        with processes(*(partial(fill, worker, counter) for worker, counter in enumerate(counters))):
            while not meter.over:
                time.sleep(0.01)
                made = sum(counter.value for counter in counters)
                if made > seen:
                    meter.saw(rows * (made - seen), batches=made - seen)
                seen = made

    return drive


def shared_arrays(slots: int, rows: int, *fields: tuple[tuple[int, ...], Any]) -> list[np.ndarray]:
    """Return an array of slots for each field, in memory that forks share, every page of it touched."""
    arrays = []
    for shape, dtype in fields:
        nbytes = slots * rows * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        array = np.frombuffer(mmap.mmap(-1, nbytes), dtype).reshape(slots, rows, *shape)
        array[...] = 0  # no page is touched for the first time later on
        arrays.append(array)
    return arrays
