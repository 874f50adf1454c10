"""How fast are sequences of different lengths padded to the longest of their batch: of any lengths, or of about one?

20,000 sequences of 5 to 200 steps with 10 float32 features each, in memory as all steps one after the other; batches of
64, shuffled. Every peer gets whole batches of ids, and one loop over slices that pads them, which is faster than rows
one by one; tf.data gathers from a `RaggedTensor` and pads it with one operation, which beats its `padded_batch`.
DALI is left out: it would only hand on what a Python loop has padded. Batches take less than a millisecond, so all
who ask ahead do so for 64.

Bucketed: batches have sequences of 5 to 50, 51 to 100, 101 to 150, or 151 to 200 steps, and come in random order. Who
has no buckets of its own is given such batches of ids; Grain cannot be given any.

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
BOUNDARIES = (50, 100, 150, 200)  # the longest of each bucket


class Sequences(Work):
    samples = SAMPLES
    rows = 64
    x: Any = ((None, FEATURES), np.float32)
    y = ((), np.int64)
    gathers = True

    @property
    def nbytes(self) -> int:
        """Bytes of a batch of the longest."""
        return self.rows * (LONGEST * FEATURES * 4 + 8)

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


class Bucketed(Sequences):
    """A batch is of one bucket; each bucket has a last short one."""

    def dataset(self) -> Any:
        from loader_client import Ragged
        from loader_service import Dataset

        source = Dataset.from_arrays(x=Ragged(*steps()), y=self.in_order()).bucket_by_length("x", BOUNDARIES)
        return source.pad("x").shuffle(seed=7).batch(self.rows)

    def batches_of_ids(self, epoch: int) -> list[Ids]:
        rng = np.random.default_rng((7, epoch))
        shuffled = (rng.permutation(ids) for ids in buckets())
        batches = [batch for ids in shuffled for batch in np.split(ids, range(self.rows, len(ids), self.rows))]
        return [batches[number] for number in rng.permutation(len(batches))]

    @property
    def whole_batches(self) -> int:
        return len(self.batches_of_ids(0))

    def tf_batches_of_ids(self) -> Any:
        """Shuffle each bucket at once, then the batches: several times as fast as `bucket_by_sequence_length`."""
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensor_slices(np.empty((0, self.rows), np.int64))
        for ids in buckets():
            shuffled = tf.random.shuffle(ids)
            whole = len(ids) // self.rows * self.rows
            batches = batches.concatenate(
                tf.data.Dataset.from_tensor_slices(tf.reshape(shuffled[:whole], (-1, self.rows)))
            )
            batches = batches.concatenate(tf.data.Dataset.from_tensors(shuffled[whole:]))
        return batches.shuffle(self.whole_batches)


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
def buckets() -> list[Ids]:
    """Return the ids of each bucket."""
    bucket_of = np.searchsorted(BOUNDARIES, np.diff(steps()[1]))
    return [np.flatnonzero(bucket_of == bucket) for bucket in range(len(BOUNDARIES))]


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
        yield map(batch, work.batches_of_ids(epoch))


def arms(work: Work) -> list[Arm]:
    peers = [arm for arm in arms_of(work) if not arm.name.startswith((IN_LINE, FLOOR))]
    return [*peers, Arm(IN_LINE, reading(partial(in_line, work), Examiner(work)))]


WORK, BUCKETED, BARE = Sequences(), Bucketed(), ToOneLength()
IN_LINE, FLOOR = "one process, in line", "floor: 2 bare processes, nobody reads"
CASES = [
    Case("sequences", WORK.nbytes, WORK.rows, [*arms(WORK), Arm(FLOOR, bare.floor(BARE))]),
    Case("sequences, bucketed", BUCKETED.nbytes, BUCKETED.rows, arms(BUCKETED), short=False),
]

if __name__ == "__main__":
    main("benchmarks.sequences", __doc__ or "", CASES)
