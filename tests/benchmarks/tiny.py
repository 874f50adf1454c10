"""A workload of 48 numbers, for whoever is installed: what the harness runs, small."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.arms import Arm, Case, reading
from benchmarks.examiner import Examiner
from benchmarks.peers import arms_of, bare, ours
from benchmarks.work import Work


class Tiny(Work):
    samples = 48
    rows = 8
    x = ((3,), np.float32)
    y = ((), np.int64)
    prefetch = 4

    def dataset(self) -> Any:
        from loader_service import Dataset

        x = np.repeat(self.in_order()[:, None], 3, axis=1).astype(np.float32)
        return Dataset.from_arrays(x=x, y=self.in_order()).shuffle(seed=7).batch(self.rows)

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        return np.full(3, i, np.float32), np.int64(i)

    def fill(self, ids: Any, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        x[...] = ids[:, None]
        y[...] = ids

    def tf_columns(self) -> tuple[Any, ...]:
        return (self.in_order(),)

    def tf_sample(self, *columns: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        (i,) = columns
        return tf.fill((3,), tf.cast(i, tf.float32)), i

    def identities(self, x: np.ndarray, y: np.ndarray) -> Any:
        return y

    def examine(self, position: int, ids: Any, x: np.ndarray, y: np.ndarray) -> None:
        assert (x == ids[:, None]).all(), "the numbers are not those of the sample"


WORK = Tiny()
ARMS = [
    *arms_of(WORK),
    Arm("loader-service, 1 worker", reading(partial(ours.epochs, WORK, workers=1), Examiner(WORK)), at=1),
    Arm("floor: 3 bare processes, nobody reads", bare.floor(WORK, 3), at=3),
]
CASES = [Case("tiny", WORK.nbytes, WORK.rows, ARMS)]
