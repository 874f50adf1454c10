"""How fast are sequences of different lengths padded to the longest of their batch?

20,000 sequences of 5 to 200 steps with 10 float32 features each, in memory as all steps one after the other; batches of
64, shuffled. Every peer gets whole batches of ids, and one loop over slices that pads them, which is faster than rows
one by one; tf.data gathers from a `RaggedTensor` and pads it with one operation, which beats its `padded_batch`.
DALI is left out: it would only hand on what a Python loop has padded. Batches take less than a millisecond, so all
who ask ahead do so for 64.

Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   samples/s, median of 5 (smallest..largest)                                             ours is
         loader-service, 2 workers       236,872 (202,208..247,266)
         one process, in line            192,876 (178,387..245,868)                              1.2 x
         tf.data, one endless iterator   136,878 (132,824..152,557)                              1.7 x
         tf.data, an iterator per epoch   82,368 (77,839..101,115)                               2.9 x
         Keras PyDataset, 2 threads       68,237 (66,748..69,768)                                3.5 x
         Grain, 2 processes               34,866 (32,370..37,599)                                6.8 x
         PyTorch DataLoader, 2 workers    20,385 (13,789..24,770)                                 12 x
         Keras PyDataset, 2 processes     19,698 (18,391..20,126)                                 12 x
         floor: 2 bare processes, nobody reads what they pad: 523,424 (496,186..557,814)        0.45 x

    python -m benchmarks.sequences --seconds 2 --repeats 5 --longest 4
"""

from __future__ import annotations

from functools import cache, partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arms import Arm, Batch, Case, Epochs, reading
from benchmarks.examiner import Examiner
from benchmarks.harness import main
from benchmarks.peers import arms_of, bare
from benchmarks.work import Ids, Work

SAMPLES, FEATURES = 20_000, 10
SHORTEST, LONGEST = 5, 200  # steps


class Sequences(Work):
    samples = SAMPLES
    rows = 64
    x: Any = ((None, FEATURES), np.float32)
    y = ((), np.int64)
    gathers = True
    prefetch = 64  # a batch takes less than a millisecond

    def dataset(self) -> Any:
        from loader_client import Ragged
        from loader_service import Dataset

        sequences = Ragged(*steps())
        return Dataset.from_arrays(x=sequences, y=self.in_order()).pad("x").shuffle(seed=7).batch(self.rows)

    def batch(self, ids: Ids, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ids = np.asarray(ids)
        values, splits = steps()
        starts, stops = splits[ids], splits[ids + 1]
        x = np.zeros((len(ids), (stops - starts).max(), FEATURES), np.float32)
        for row, start, stop in zip(x, starts.tolist(), stops.tolist(), strict=True):
            row[: stop - start] = values[start:stop]
        return x, ids

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        values, splits = steps()
        for row, start, stop in zip(x, splits[ids].tolist(), splits[ids + 1].tolist(), strict=True):
            row[: stop - start] = values[start:stop]
            row[stop - start :] = 0
        y[...] = ids

    def tf_batch(self, ids: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return tf.gather(in_tensorflow(), ids).to_tensor(), tf.cast(ids, tf.int64)

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        values, splits = steps()
        for row, i in zip(x, ids.tolist(), strict=True):
            length = splits[i + 1] - splits[i]
            assert np.array_equal(row[:length], values[splits[i] : splits[i + 1]]), (
                "the steps are not those of the sample"
            )
            assert not row[length:].any(), "padding is not zero"


class ToOneLength(Sequences):
    """What bare processes do in memory that is there: it has one shape, which the longest of 64 nearly has, too."""

    x = ((LONGEST, FEATURES), np.float32)


@cache
def steps() -> tuple[np.ndarray, NDArray[np.int64]]:
    """Return all steps, and where each sequence starts and ends."""
    rng = np.random.default_rng(7)
    splits = np.zeros(SAMPLES + 1, np.int64)
    np.cumsum(rng.integers(SHORTEST, LONGEST + 1, SAMPLES), out=splits[1:])
    return rng.standard_normal((splits[-1], FEATURES), np.float32), splits


@cache
def in_tensorflow() -> Any:
    import tensorflow as tf

    with tf.init_scope():
        return tf.RaggedTensor.from_row_splits(*steps())


def in_line(work: Work) -> Epochs:
    """The loop itself, in the process that trains."""

    def batch(ids: Ids) -> Batch:
        return work.batch(ids, np.random.default_rng(7))

    for epoch in count():
        ids = work.order(7, epoch)
        yield map(batch, np.split(ids, range(work.rows, work.samples, work.rows)))


WORK, BARE = Sequences(), ToOneLength()
IN_LINE, FLOOR = "one process, in line", "floor: 2 bare processes, nobody reads"
ARMS = [
    *(arm for arm in arms_of(WORK) if not arm.name.startswith(("NVIDIA", IN_LINE, FLOOR))),
    Arm(IN_LINE, reading(partial(in_line, WORK), Examiner(WORK))),
    Arm(FLOOR, bare.floor(BARE)),
]
CASES = [Case("sequences", BARE.nbytes, WORK.rows, ARMS)]

if __name__ == "__main__":
    main("benchmarks.sequences", __doc__ or "", CASES)
