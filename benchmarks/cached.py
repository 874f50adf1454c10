"""What does it save to keep decoded photos, and what does keeping them cost?

The photos of photos.py, for training, with `.cache()` behind the decoder: 2,000 pictures of 500 x 375 are a gigabyte of
pixels. Every arm has the page cache warm, and has seen each photo once before it is timed. tf.data keeps them in memory
(`cache()`), and one process in line in a list, which is the fewest calls that can be.

The second case is the first epoch: each epoch opens the dataset anew, and fills a cache that is empty; or has none.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.arms import Arm, Case, Epochs, cut, reading
from benchmarks.examiner import Examiner
from benchmarks.harness import main
from benchmarks.peers import OURS, bare, ours
from benchmarks.photos import SIZE, Train, decoded, random_box

WORKERS = 2


@contextlib.contextmanager
def empty_folder() -> Iterator[str]:
    """Beside the data: on the same disk."""
    folder = tempfile.mkdtemp(prefix="kept-", dir=data.FOLDER)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Kept(Train):
    """Photos for training, whose pixels are kept once they are decoded."""

    def kept_in(self, folder: str | None, seed: int = 7) -> Any:
        from loader_service import Dataset

        photos = Dataset.from_image_folder(data.FOLDER / "photos")
        photos = photos if folder is None else photos.cache(path=folder)
        return photos.random_resized_crop(SIZE, SIZE).random_flip().shuffle(seed=seed).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        import cv2

        picture = pixels()[i]
        top, left, height, width = random_box(*picture.shape[:2], rng)
        cv2.resize(
            picture[top : top + height, left : left + width], (SIZE, SIZE), dst=x, interpolation=cv2.INTER_LINEAR
        )
        if rng.random() < 0.5:
            cv2.flip(x, 1, dst=x)


@cache
def pixels() -> list[np.ndarray]:
    return [decoded(i) for i in range(data.PHOTOS)]


def kept(work: Kept) -> Epochs:
    import loader_client

    with empty_folder() as folder, loader_client.connect(workers=WORKERS) as loader:
        stream = loader.stream(work.kept_in(folder), prefetch=work.prefetch)
        while True:
            yield (tuple(batch.values()) for batch in stream)


def opened_anew(work: Kept, *, keeps: bool) -> Epochs:
    import loader_client

    with loader_client.connect(workers=WORKERS) as loader:
        for seed in count():  # another dataset each time: an open one would be read on, with its cache
            with empty_folder() as folder:
                stream = loader.stream(work.kept_in(folder if keeps else None, seed), prefetch=work.prefetch)
                yield (tuple(batch.values()) for batch in stream)
                stream.close()


def in_tensorflow(work: Kept) -> Epochs:
    """Decode, keep in memory, then all that is random."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.deterministic = False

    def decode(path: Any, label: Any) -> tuple[Any, Any]:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3), label

    def augment(picture: Any, label: Any) -> tuple[Any, Any]:
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(picture),
            tf.zeros((1, 0, 4)),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )
        x = tf.image.resize(tf.slice(picture, begin, size), (SIZE, SIZE))
        x = tf.image.random_flip_left_right(tf.cast(tf.round(x), tf.uint8))
        return tf.ensure_shape(x, work.x[0]), label

    photos = tf.data.Dataset.from_tensor_slices(work.tf_columns()).map(decode, num_parallel_calls=2).cache()
    photos = photos.shuffle(work.samples).repeat().map(augment, num_parallel_calls=2)
    batches = photos.batch(work.rows, drop_remainder=True).prefetch(work.prefetch).with_options(options)
    yield from cut(batches.as_numpy_iterator(), work.samples // work.rows)


WORK = Kept()
ARMS = [
    Arm(f"{OURS}, kept", reading(partial(kept, WORK), Examiner(WORK))),
    Arm(f"{OURS}, decoded each time", reading(partial(ours.epochs, WORK), Examiner(WORK))),
    Arm("tf.data, cache() in memory", reading(partial(in_tensorflow, WORK), Examiner(WORK)), "tensorflow"),
    Arm("one process, pixels in a list", reading(partial(bare.in_line, WORK), Examiner(WORK))),
]
FIRST = [
    Arm(f"{OURS}, filling a cache", reading(partial(opened_anew, WORK, keeps=True), Examiner(WORK))),
    Arm(f"{OURS}, none", reading(partial(opened_anew, WORK, keeps=False), Examiner(WORK))),
]
CASES = [
    Case("photos, kept", WORK.nbytes, WORK.rows, ARMS, prepare=data.make_photos),
    Case("photos, first epoch", WORK.nbytes, WORK.rows, FIRST, prepare=data.make_photos),
]

if __name__ == "__main__":
    main("benchmarks.cached", __doc__ or "", CASES)
