"""How fast do photos for training come as normalised float32, four times the bytes?

The photos of photos.py, decoded, cropped, scaled and mirrored as there; then (x / 255 - mean) / std in each channel,
with the usual numbers of ImageNet, as float32: 38 MB a batch. A model that normalises by itself is given bytes, and
saves all of this.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.harness import main
from benchmarks.peers import case_of
from benchmarks.photos import LABELS, PATHS, RATIO, SCALE, SIZE, Train

MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)  # of levels 0 to 255
STD = 255 * np.array([0.229, 0.224, 0.225], np.float32)
scratch = threading.local()  # the bytes of a photo: each thread has its own


class Normalized(Train):
    x = ((SIZE, SIZE, 3), np.float32)

    def dataset(self) -> Any:
        from loader_service import Dataset

        source = Dataset.from_image_folder(data.FOLDER / "photos")
        drawn = source.random_resized_crop(SIZE, SIZE, antialias=False).random_flip()
        return drawn.normalize(MEAN.tolist(), STD.tolist()).shuffle(seed=7).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        import cv2

        if not hasattr(scratch, "levels"):
            scratch.levels = np.empty((SIZE, SIZE, 3), np.uint8)
        super().write(i, rng, scratch.levels)
        cv2.subtract(scratch.levels, (*MEAN.tolist(), 0), dst=x, dtype=cv2.CV_32F)
        cv2.multiply(x, (*(1 / STD).tolist(), 0), dst=x)

    def tf_sample(self, path: Any, label: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        x, label = super().tf_sample(path, label)
        return (tf.cast(x, tf.float32) - MEAN) / STD, label

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn, types

        encoded, label = fn.readers.file(files=PATHS, labels=LABELS.tolist(), shuffle_after_epoch=True)
        part = fn.decoders.image_random_crop(encoded, random_area=list(SCALE), random_aspect_ratio=list(RATIO))
        x = fn.resize(part, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=False)
        how = {"dtype": types.FLOAT, "output_layout": "HWC", "mean": MEAN.tolist(), "std": STD.tolist()}
        return fn.crop_mirror_normalize(x, mirror=fn.random.coin_flip(), **how), fn.cast(label, dtype=types.INT64)

    def ffcv(self) -> tuple[Any, ...]:
        from ffcv.transforms import NormalizeImage

        path, fields, stored, pipelines = super().ffcv()
        return path, fields, stored, {**pipelines, "x": [*pipelines["x"], NormalizeImage(MEAN, STD, np.float32)]}

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        super().examine(position, ids, x * STD + MEAN, y)


WORK = Normalized()
CASES = [case_of("photos, normalised", WORK, prepare=data.make_photos, short=False)]

if __name__ == "__main__":
    main("benchmarks.normalized", __doc__ or "", CASES)
