"""How fast are small pictures gathered from one mapped array, in shuffled order, half of them mirrored?

20,000 pictures of 64 x 64 x 3 uint8 in one `.npy` file, batches of 256. The work is one gather of 12 KB rows, half of
them mirrored: very little, so that what counts is the way of a batch of 3 MB from process to process. Others gather,
and then mirror in place; ours mirrors with the copy.

The loop in one process has no such way to go, and one core. tf.data holds the whole array in memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.harness import main
from benchmarks.peers import case_of
from benchmarks.work import Ids, Work

PATH = data.FOLDER / "arrays.npy"


class Arrays(Work):
    samples = data.ARRAYS[0]
    rows = 256
    x = (data.ARRAYS[1:], np.uint8)
    y = ((), np.int64)
    gathers = True
    random = True

    def dataset(self) -> Any:
        from loader_service import Dataset

        source = Dataset.from_arrays(x=PATH, y=self.in_order())
        return source.random_flip(field="x").shuffle(seed=7).batch(self.rows)

    def batch(self, ids: Ids, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = np.take(mapped(), ids, axis=0)
        flip_half(x, rng)
        return x, np.asarray(ids)

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        np.take(mapped(), ids, axis=0, out=x, mode="clip")
        flip_half(x, rng)
        y[...] = ids

    def columns(self) -> tuple[np.ndarray, ...]:
        return mapped(), self.in_order()

    def tf_batch(self, ids: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        return tf.image.random_flip_left_right(tf.gather(in_tensorflow(), ids)), tf.cast(ids, tf.int64)

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn

        from benchmarks.peers.dali import gathered

        x, y = fn.external_source(gathered(self), num_outputs=2, layout=["HWC", ""])
        return fn.flip(x, horizontal=fn.random.coin_flip()), y

    def ffcv(self) -> tuple[Any, ...]:
        from ffcv.fields import IntField, RGBImageField
        from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
        from ffcv.transforms import RandomHorizontalFlip

        fields = {"x": RGBImageField(write_mode="raw"), "y": IntField()}
        pipelines = {"x": [SimpleRGBImageDecoder(), RandomHorizontalFlip()], "y": [IntDecoder()]}
        return data.FOLDER / "arrays.beton", fields, lambda i: (mapped()[i], i), pipelines

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        as_stored = mapped()[ids]
        same, mirrored = ((x == other).all((1, 2, 3)) for other in (as_stored, as_stored[:, :, ::-1]))
        assert (same | mirrored).all(), "a picture is neither as it is stored nor mirrored"
        assert len(x) < self.rows or 0.3 < mirrored.mean() < 0.7, f"{mirrored.sum()} of {len(x)} are mirrored"


def flip_half(x: np.ndarray, rng: np.random.Generator) -> None:
    """Mirror half of the pictures, in place: ten times faster than by fancy indexing."""
    import cv2

    for row in np.flatnonzero(rng.random(len(x)) < 0.5):
        cv2.flip(x[row], 1, dst=x[row])


@cache
def mapped() -> np.ndarray:
    return np.asarray(np.load(PATH, mmap_mode="r"))


@cache
def in_tensorflow() -> Any:
    import tensorflow as tf

    with tf.init_scope():
        return tf.constant(mapped())


WORK = Arrays()
CASES = [case_of("arrays", WORK, prepare=data.make_arrays)]

if __name__ == "__main__":
    main("benchmarks.arrays", __doc__ or "", CASES)
