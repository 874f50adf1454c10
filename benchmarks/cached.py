"""What does it save to keep what is decoded, or packed, and what does keeping it cost?

The photos of photos.py, for training, with `.cache()` behind the decoder: 2,000 pictures of 500 x 375 are a gigabyte of
pixels. Every arm has the page cache warm, and has seen each photo once before it is timed. tf.data keeps them in memory
(`cache()`), and one process in line in a list, which is the fewest calls that can be.

The second case is the first epoch: each epoch opens the dataset anew, and fills a cache that is empty; or has none.
The third are the volumes of volumes.py out of a pack, where FFCV reads a file of its own, and one process maps them as
one array and gathers rows in line.

Medians on 2 cores Intel Xeon 2.8 GHz, Linux 6.18, Python 3.11, FFCV 1.0.2, on 2026-11-21; 2 and 3 s, 3 to 5 repeats:

    photos, kept              4,883 samples/s; a later run 5,291
    decoded each time         1,049 (0.21 x); 977
    a quarter kept            1,218 in the later run: 1.25 x decoded; what its share promises is 1.25 x
    FFCV, raw pixels          1,191 (0.24 x)
    tf.data, cache()          2,535 (0.52 x)
    in line, from a list      3,830 (0.78 x)
    first epoch               773 filling a cache, 747 without
    volumes from a pack      54,198; one mapped array 58,068 (1.1 x), FFCV 23,884 (0.44 x), one process in line 47,470
                             (0.88 x), two bare processes 82,259 (1.5 x)
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
from benchmarks.peers import OURS, bare, ffcv_loader, ours
from benchmarks.photos import SIZE, Train, decoded, ffcv_fields, finish, random_box
from benchmarks.volumes import LABELS as VOLUME_LABELS
from benchmarks.volumes import Packed

WORKERS = 2
QUARTER = 2000 * 500 * 375 * 3 // 4  # bytes: of all pixels
VOLUMES = data.FOLDER / "volumes.pack"


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

    def kept_in(self, folder: str | None, seed: int = 7, most: int | None = None) -> Any:
        from loader_service import Dataset

        photos = Dataset.from_image_folder(data.FOLDER / "photos")
        photos = photos if folder is None else photos.cache(most, path=folder)
        return photos.random_resized_crop(SIZE, SIZE, antialias=False).random_flip().shuffle(seed=seed).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        picture = pixels()[i]
        top, left, height, width = random_box(*picture.shape[:2], rng)
        finish(picture[top : top + height, left : left + width], rng, x)

    def ffcv(self) -> tuple[Any, ...]:
        path, _, stored, pipelines = super().ffcv()
        return path.with_name("photos.beton"), ffcv_fields("raw"), stored, pipelines


@cache
def pixels() -> list[np.ndarray]:
    return [decoded(i) for i in range(data.PHOTOS)]


def kept(work: Kept, most: int | None = None) -> Epochs:
    import loader_client

    with empty_folder() as folder, loader_client.connect(workers=WORKERS) as loader:
        stream = loader.stream(work.kept_in(folder, most=most), prefetch=work.prefetch)
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


class FromPack(Packed):
    """Volumes, as `loader-service pack` has written them."""

    def dataset(self) -> Any:
        from loader_service import Dataset

        if not VOLUMES.exists():
            ids = [f"id-{number}" for number in range(data.VOLUMES)]
            Dataset.from_npy_files(data.FOLDER / "volumes", ids, VOLUME_LABELS.tolist()).pack(VOLUMES)
        return Dataset.from_pack(VOLUMES).one_hot("label", data.CLASSES).shuffle(seed=7).batch(self.rows)


WORK = Kept()
ARMS = [
    Arm(f"{OURS}, kept", reading(partial(kept, WORK), Examiner(WORK))),
    Arm(f"{OURS}, decoded each time", reading(partial(ours.epochs, WORK), Examiner(WORK))),
    Arm(f"{OURS}, a quarter kept", reading(partial(kept, WORK, QUARTER), Examiner(WORK))),
    Arm("FFCV, raw pixels, 2 threads", reading(partial(ffcv_loader.epochs, WORK), Examiner(WORK)), "ffcv", short=False),
    Arm("tf.data, cache() in memory", reading(partial(in_tensorflow, WORK), Examiner(WORK)), "tensorflow"),
    Arm("one process, pixels in a list", reading(partial(bare.in_line, WORK), Examiner(WORK))),
]
FIRST = [
    Arm(f"{OURS}, filling a cache", reading(partial(opened_anew, WORK, keeps=True), Examiner(WORK))),
    Arm(f"{OURS}, none", reading(partial(opened_anew, WORK, keeps=False), Examiner(WORK))),
]
PACK = FromPack()
PACKED = [
    Arm(f"{OURS}, from a pack", reading(partial(ours.epochs, PACK), Examiner(PACK))),
    Arm(f"{OURS}, from one mapped array", reading(partial(ours.epochs, Packed()), Examiner(PACK))),
    Arm("FFCV, 2 threads", reading(partial(ffcv_loader.epochs, PACK), Examiner(PACK)), "ffcv", short=False),
    Arm("one process, one mapped array, in line", reading(partial(bare.in_line, PACK), Examiner(PACK))),
    Arm("floor: 2 bare processes, nobody reads", bare.floor(PACK)),
]
CASES = [
    Case("photos, kept", WORK.nbytes, WORK.rows, ARMS, prepare=data.make_photos, short=False),
    Case("photos, first epoch", WORK.nbytes, WORK.rows, FIRST, prepare=data.make_photos, short=False),
    Case("volumes, packed", PACK.nbytes, PACK.rows, PACKED, prepare=data.make_volumes, short=False),
]

if __name__ == "__main__":
    main("benchmarks.cached", __doc__ or "", CASES)
