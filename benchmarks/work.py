"""A workload, said once: what a sample is, how it is made in plain Python, and how a batch is recognised as right.

The peers (benchmarks/peers) take from it what their idiom needs: those that run Python get `sample` or `batch`, our
service gets a `Dataset`, tf.data and DALI get operations of their own, and the floor gets `fill`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loader_service.protocol.prefetch import suggested_prefetch

if TYPE_CHECKING:
    from loader_service import Dataset

Field = tuple[tuple[int | None, ...], Any]  # shape without the batch axis, dtype; None: differs from batch to batch
Ids = NDArray[np.int64]


class Work:
    """What every arm of a case must do. Subclasses live in the workload's file; they are small, and may be pickled."""

    samples: int
    rows: int  # of a batch
    x: Field
    y: Field
    shuffled = True
    random = False  # whether the work draws random numbers
    in_python = False  # whether it is a user's Python function, which tf.data calls as such
    gathers = False  # whether a whole batch is read by one gather: then those who can are given ids of batches

    @property
    def nbytes(self) -> int:
        """Bytes of a batch."""
        sizes = (np.dtype(dtype).itemsize * math.prod(size or 0 for size in shape) for shape, dtype in (self.x, self.y))
        return self.rows * sum(sizes)

    @property
    def prefetch(self) -> int:
        """Return how many batches ahead everybody asks for: as ours would by itself; others would for fewer."""
        return suggested_prefetch(self.nbytes, self.whole_batches)

    def order(self, seed: int, epoch: int) -> Ids:
        """Return the ids of an epoch."""
        return np.random.default_rng((seed, epoch)).permutation(self.samples) if self.shuffled else self.in_order()

    def in_order(self) -> Ids:
        return np.arange(self.samples)

    def batches_of_ids(self, epoch: int) -> list[Ids]:
        """Return the ids of each batch of an epoch, for those who are given whole batches."""
        return np.split(self.order(7, epoch), range(self.rows, self.samples, self.rows))

    @property
    def whole_batches(self) -> int:
        """Return how many batches an epoch of those has who leave out the last, short one."""
        return self.samples // self.rows

    def says(self, name: str) -> bool:
        """Return whether this work is told in that peer's words."""
        return getattr(type(self), name) is not getattr(Work, name)

    # -- the work, in each one's words -----------------------------------------------------------------------

    def dataset(self) -> Dataset:
        """Return ours."""
        raise NotImplementedError

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Return one sample, as a good Python programmer would make it."""
        raise NotImplementedError

    def batch(self, ids: Ids, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch, likewise."""
        x, y = (np.empty((len(ids), *shape), dtype) for shape, dtype in (self.x, self.y))
        for row, i in enumerate(ids):
            x[row], y[row] = self.sample(i, rng)
        return x, y

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        """Write a batch into arrays that are there, by as few calls as we know how to."""
        raise NotImplementedError

    def tf_columns(self) -> tuple[Any, ...]:
        """Return what tf.data holds of each sample: a path, a label."""
        raise NotImplementedError

    def tf_sample(self, *columns: Any) -> tuple[Any, Any]:
        """Return one sample by TensorFlow's operations."""
        raise NotImplementedError

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the arrays to gather from, where the work gathers."""
        raise NotImplementedError

    def tf_batches_of_ids(self) -> Any:
        """Return an epoch of batches of ids as a dataset of TensorFlow's; those of a last short batch are left out."""
        import tensorflow as tf

        ids = tf.random.shuffle(tf.range(self.samples))[: self.whole_batches * self.rows]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(ids, (-1, self.rows)))

    def tf_batch(self, ids: Any) -> tuple[Any, Any]:
        """Return a batch by TensorFlow's operations, where the work gathers."""
        raise NotImplementedError

    def dali(self) -> tuple[Any, Any]:
        """Return the outputs of a DALI pipeline, inside its `with` block."""
        raise NotImplementedError

    def ffcv(self) -> tuple[Path, dict[str, Any], Callable[[int], tuple[Any, ...]], dict[str, Any]]:
        """Return FFCV's file, the fields and the samples that are written to it, and a pipeline for each field."""
        raise NotImplementedError

    # -- what is right ---------------------------------------------------------------------------------------

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        """Return a number for each row that tells which sample it is, or of which class."""
        raise NotImplementedError

    def all_identities(self) -> NDArray[np.int64]:
        """Return those of all samples, in the order of the source."""
        return self.in_order()

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        """Fail if these rows, the first of which is at that position of the epoch, do not hold what those ids say."""
        raise NotImplementedError
