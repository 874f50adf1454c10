"""No loader at all: a loop in this process, and the floor, two bare processes that fill shared memory.

Their best: by as few calls as we know how to, into the same memory again and again, so that no page is touched for the
first time. Nobody reads what the floor makes, and nobody is told: no service that hands batches over can be faster
with the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from benchmarks.arms import Batch, Counter, Drive, Epochs, Fill, counting, shared_arrays
from benchmarks.examiner import Examiner
from benchmarks.work import Work

SPARE_SLOTS = 6  # what the daemon adds to the prefetch: loader_service/daemon/memory.py


def in_line(work: Work) -> Epochs:
    (x,), (y,) = shared_arrays(1, work.rows, work.x, work.y)
    rng = np.random.default_rng(7)

    def epoch(number: int) -> Iterator[Batch]:
        ids = work.order(7, number)
        for start in range(0, work.samples, work.rows):
            chosen = ids[start : start + work.rows]
            rows = len(chosen)
            work.fill(chosen, rng, x[:rows], y[:rows])
            yield x[:rows], y[:rows]

    for number in count():
        yield epoch(number)


def floor(work: Work, workers: int = 2) -> Drive:
    def prepare() -> Fill:
        slots = max(work.prefetch + SPARE_SLOTS, 2 * workers) // workers * workers
        xs, ys = shared_arrays(slots, work.rows, work.x, work.y)
        chosen = work.order(7, 0)[: work.rows]
        work.fill(chosen, np.random.default_rng(7), xs[0], ys[0])
        Examiner(work).saw((xs[0], ys[0]))

        def fill(worker: int, made: Counter) -> None:
            rng = np.random.default_rng(worker)
            slot = worker
            for epoch in count():
                ids = work.order(worker, epoch)
                for start in range(0, work.samples - work.rows + 1, work.rows):
                    work.fill(ids[start : start + work.rows], rng, xs[slot], ys[slot])
                    slot = (slot + workers) % slots
                    made.value += 1

        return fill

    return counting(prepare, work.rows, workers)
