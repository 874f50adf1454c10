"""What is left where there is nearly no work: rows of a table, in shuffled order?

1,000,000 rows of 32 float32 in one mapped `.npy` file, batches of 256: 32 KiB, gathered in microseconds. All that is
measured is the hand-over.

Whoever has everything in memory, in the process that trains, hands nothing over, and takes half to two thirds of our
CPU time: we must lose to that on one core, and a second one makes us about even. If your data is like this, give `fit`
the arrays.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.arms import Arm, Case, Epochs, cut, reading
from benchmarks.examiner import Examiner
from benchmarks.harness import main
from benchmarks.peers import arms_of, bare
from benchmarks.work import Ids, Work

PATH = data.FOLDER / "table.npy"


class Table(Work):
    samples = data.TABLE[0]
    rows = 256
    x = (data.TABLE[1:], np.float32)
    y = ((), np.int64)
    gathers = True

    def dataset(self) -> Any:
        from loader_service import Dataset

        return Dataset.from_arrays(x=PATH, y=self.in_order()).shuffle(seed=7).batch(self.rows)

    def batch(self, ids: Ids, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return np.take(mapped(), ids, axis=0), np.asarray(ids)

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        np.take(mapped(), ids, axis=0, out=x, mode="clip")
        y[...] = ids

    def columns(self) -> tuple[np.ndarray, ...]:
        return mapped(), self.in_order()

    def tf_batch(self, ids: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return tf.gather(in_tensorflow(), ids), tf.cast(ids, tf.int64)

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn

        from benchmarks.peers.dali import gathered

        x, y = fn.external_source(gathered(self), num_outputs=2)
        return x, y

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert np.array_equal(x[:, 0], ids), "the rows are not those of the table"


class InMemory(Table):
    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        np.take(in_memory(), ids, axis=0, out=x, mode="clip")
        y[...] = ids


def tf_rows(work: Work) -> Epochs:
    """tf.data as its guide has it for arrays in memory: rows, shuffled one by one."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((in_memory(), work.in_order())).shuffle(work.samples)
    batches = rows.repeat().batch(work.rows, drop_remainder=True).prefetch(work.prefetch)
    yield from cut(batches.as_numpy_iterator(), work.samples // work.rows)


@cache
def mapped() -> np.ndarray:
    return np.asarray(np.load(PATH, mmap_mode="r"))


@cache
def in_memory() -> np.ndarray:
    return np.load(PATH)


@cache
def in_tensorflow() -> Any:
    import tensorflow as tf

    with tf.init_scope():
        return tf.constant(mapped())


WORK = Table()
IN_MEMORY = InMemory()
ARMS = [
    *arms_of(WORK),
    Arm("in memory: np.take, in line", reading(partial(bare.in_line, IN_MEMORY), Examiner(IN_MEMORY))),
    Arm("in memory: tf.data, row by row", reading(partial(tf_rows, WORK), Examiner(WORK)), "tensorflow", short=False),
]
CASES = [Case("table", WORK.nbytes, WORK.rows, ARMS, prepare=data.make_table)]

if __name__ == "__main__":
    main("benchmarks.table", __doc__ or "", CASES)
