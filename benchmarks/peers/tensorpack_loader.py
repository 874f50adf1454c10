"""tensorpack's DataFlow: forked processes that push whole batches over ZeroMQ.

Its best: `MultiProcessRunnerZMQ` over a flow that makes batches, the fastest of its runners: nothing is sent to the
processes, and each sends what it has made, pickled, as one frame. It promises no more than samples that are alike in
distribution, since each process runs all of the flow: here the flow takes the number of the next batch from a counter
that all share, and so makes each batch once. Where order counts, one process reads it, as its documentation advises.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from benchmarks.arms import Batch, Epochs
from benchmarks.work import Work


def batches(work: Work) -> Iterator[tuple[int, Batch]]:
    """Yield batches as they come, each with the number of its epoch."""
    from tensorpack.dataflow import DataFlow, MultiProcessRunnerZMQ

    taken = multiprocessing.get_context("fork").Value("q", 0)
    length = len(work.batches_of_ids(0))

    class Batches(DataFlow):  # type: ignore[misc]
        def __iter__(self) -> Iterator[list[Any]]:
            for epoch in count():
                of_epoch = work.batches_of_ids(epoch)
                while True:
                    with taken:
                        number = taken.value - epoch * length
                        if number >= length:
                            break
                        taken.value += 1
                    yield [epoch, work.batch(of_epoch[number], np.random.default_rng((epoch, number)))]

    flow = MultiProcessRunnerZMQ(Batches(), num_proc=2 if work.shuffled else 1, hwm=work.prefetch // 2)
    flow.reset_state()
    while True:
        yield from flow


def epochs(work: Work) -> Epochs:
    made = batches(work)
    early: list[Batch] = []
    for number in count():
        ready, early = early, []
        yield epoch(made, number, ready, early, len(work.batches_of_ids(number)))


def epoch(
    made: Iterator[tuple[int, Batch]], number: int, ready: list[Batch], early: list[Batch], length: int
) -> Iterator[Batch]:
    """Yield the batches of one epoch, and put aside those of the next that come early: one process may be ahead."""
    yield from ready
    left = length - len(ready)
    while left:
        of, batch = next(made)
        if of == number:
            left -= 1
            yield batch
        else:
            early.append(batch)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    yield (batch for _, batch in batches(work)), len(work.batches_of_ids(0))
