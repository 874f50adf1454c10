"""SPDL: a pipeline of two threads, in the process that trains or in one of its own.

Its best: a source that goes on from epoch to epoch (`continuous`), and whole batches made in one stage; single samples,
aggregated and stacked in further stages, took twice as long. The process of its own hands batches over in SPDL's ring
of shared memory, which beats its queue. Which of the two ways is faster differs from work to work. SPDL's decoder wants
an installed FFmpeg and has no random crop: photos are decoded by the same libjpeg-turbo as ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from benchmarks.arms import Batch, Epochs
from benchmarks.work import Ids, Work

MARGIN = 2**20  # bytes of the ring beside the batches


class BatchesOfIds:
    """Yields the ids of each batch, and a seed; every pass is the next epoch."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._epoch = -1

    def __iter__(self) -> Iterator[tuple[Ids, tuple[int, int]]]:
        self._epoch += 1
        for number, ids in enumerate(self._work.batches_of_ids(self._epoch)):
            yield ids, (self._epoch, number)


def make(work: Work, asked: tuple[Ids, tuple[int, int]]) -> Batch:
    ids, seed = asked
    return work.batch(ids, np.random.default_rng(seed))


@contextlib.contextmanager
def pipeline(work: Work, *, process: bool) -> Iterator[Iterable[Batch]]:
    """Open what yields one epoch after the other."""
    from spdl.pipeline import PipelineBuilder, SharedMemoryRingBuffer, run_pipeline_in_subprocess

    stages = PipelineBuilder().add_source(BatchesOfIds(work), continuous=True)
    order = "completion" if work.shuffled else "input"
    stages = stages.pipe(partial(make, work), concurrency=2, output_order=order).add_sink(work.prefetch)
    if process:
        ring = SharedMemoryRingBuffer(work.prefetch * work.nbytes + MARGIN)
        yield run_pipeline_in_subprocess(stages.get_config(), num_threads=2, arena=ring, buffer_size=work.prefetch)
    else:
        built = stages.build(num_threads=2)
        with built.auto_stop():
            yield built


def epochs(work: Work, *, process: bool) -> Epochs:
    with pipeline(work, process=process) as batches:
        yield from repeat(batches)


@contextlib.contextmanager
def fit_data(work: Work, *, process: bool) -> Iterator[tuple[Any, int]]:
    with pipeline(work, process=process) as batches:
        yield (batch for epoch in repeat(batches) for batch in epoch), len(work.batches_of_ids(0))
