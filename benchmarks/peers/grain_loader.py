"""Grain's `MapDataset` API, with two threads or two processes.

Its best: `shuffle` by index, random numbers only where they are wanted, and `repeat`, so that epochs flow into one
another. Threads make samples, which are batched behind them; processes (`mp_prefetch`) make whole batches, each with
one thread to read ahead: the other way round is slower for both. For gathers ids are batched, and one gather is mapped
over them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.arms import Epochs, cut
from benchmarks.work import Work


def does(work: Work) -> bool:
    return not work.says("batches_of_ids")  # it batches ids as they come


def dataset(work: Work, *, processes: bool) -> Any:
    import grain

    ids = grain.MapDataset.range(work.samples).seed(7)
    ids = ids.shuffle() if work.shuffled else ids
    ids = ids.repeat()
    if work.gathers:
        batches = read(mapped(ids.batch(work.rows), work.batch, work), processes, work.prefetch)
    elif processes:
        batches = read(mapped(ids, work.sample, work).batch(work.rows), processes, work.prefetch)
    else:
        batches = read(mapped(ids, work.sample, work), processes, 2 * work.rows).batch(work.rows)
    if not processes:
        return batches
    return batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=2, per_worker_buffer_size=work.prefetch // 2))


def read(elements: Any, processes: bool, ahead: int) -> Any:
    """Start the threads that read: two here, or one in each process."""
    import grain

    return elements.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead // 2)
        if processes
        else grain.ReadOptions(num_threads=2, prefetch_buffer_size=ahead)
    )


def mapped(ids: Any, make: Any, work: Work) -> Any:
    """Map over ids; a generator of random numbers is made for each only where it is wanted."""
    return ids.random_map(make) if work.random else ids.map(partial(make, rng=None))


def epochs(work: Work, *, processes: bool) -> Epochs:
    batches = ((np.asarray(x), np.asarray(y)) for x, y in dataset(work, processes=processes))
    yield from cut(batches, work.samples // work.rows)


@contextlib.contextmanager
def fit_data(work: Work, *, processes: bool) -> Iterator[tuple[Any, int]]:
    yield dataset(work, processes=processes), work.samples // work.rows
