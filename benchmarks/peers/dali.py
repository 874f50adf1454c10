"""NVIDIA DALI on the CPU: a pipeline of its own operators, in two threads.

Its best: readers that shuffle the whole list after each epoch, fused decode and crop, a queue as long as the others'.
For gathers, which it has no reader for, an external source that hands it a batch at a time. Outputs are read where DALI
has them; for `fit` they are copied, since DALI writes to them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np

from benchmarks.arms import Batch, Epochs, cut
from benchmarks.work import Work


def does(work: Work) -> bool:
    return work.says("dali")


def batches(work: Work, arrange: Callable[[Any], Any] = np.asarray) -> Iterator[Batch]:
    from nvidia.dali.pipeline import Pipeline

    pipeline = Pipeline(work.rows, num_threads=2, device_id=None, seed=7, prefetch_queue_depth=work.prefetch)
    with pipeline:
        pipeline.set_outputs(*work.dali())
    pipeline.build()
    while True:
        x, y = (arrange(output.as_tensor()) for output in pipeline.run())
        yield x, y.reshape(-1, *work.y[0])


def gathered(work: Work) -> Iterator[Any]:
    """Yield batches for an external source: epoch after epoch, shuffled."""
    columns = work.columns()
    for epoch in count():
        ids = work.order(7, epoch)[: work.samples // work.rows * work.rows]
        for chosen in ids.reshape(-1, work.rows):
            yield tuple(np.take(column, chosen, axis=0) for column in columns)


def epochs(work: Work) -> Epochs:
    yield from cut(batches(work), work.samples // work.rows)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    yield batches(work, np.array), work.samples // work.rows
