"""How fast do photos come from class folders: for training, cropped and mirrored at random, and for evaluation?

2,000 JPEGs of about 500 x 375, 60 to 110 KB, in ten folders; batches of 64 as uint8. Training: a random part of 8 to
100 percent of the picture, scaled to 224 x 224, mirrored half of the time, shuffled. Evaluation: the whole picture
decoded in full quality and scaled to 224 x 224, in the order of the folders. Everybody interpolates bilinearly, and
nobody antialiases, where it is not said. Decoding is nearly all of the work, so all that use libjpeg-turbo in whole are
close to each other.

tf.data, DALI and we decode only the part that is cropped out. So does the floor of training, with our kernel, which
scales it, too, since no Python package offers that; where it is not built, and in evaluation, the floor decodes the
whole picture, and OpenCV scales it.
Ours and the floor remember where each file can be entered: the first epoch is warm-up, and takes longer than others.

Large photos: 300 JPEGs of 12 megapixels, trained on in the same way. Ours decodes them at a half, a quarter or an
eighth of their size, where the crop is scaled down by as much: `shrink_on_load=True`. With antialiasing, our default,
they are decoded in full quality, and each one antialiases in its own way. To evaluate on them, too: they are scaled to
256 x 256, and the middle is cut out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.harness import main
from benchmarks.peers import case_of
from benchmarks.work import Ids, Work

SIZE = 224
EDGE = 16  # pixels around the middle that is evaluated
SCALE = (0.08, 1.0)  # part of the picture's area
RATIO = (3 / 4, 4 / 3)
TOLERANCE = 8.0  # levels of 256, on average: what interpolations and decoders may differ by
PATHS = tuple(str(data.photo(number)) for number in range(data.PHOTOS))
LABELS = np.arange(data.PHOTOS) // (data.PHOTOS // data.CLASSES)


class Photos(Work):
    """What both cases have in common; photos are recognised by their class."""

    samples = data.PHOTOS
    rows = 64
    paths, labels = PATHS, LABELS
    x = ((SIZE, SIZE, 3), np.uint8)
    y = ((), np.int64)

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        x = np.empty(*self.x)
        self.write(i, rng, x)
        return x, self.labels[i]

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        raise NotImplementedError

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        for row, i in enumerate(ids.tolist()):
            self.write(i, rng, x[row])
        np.take(self.labels, ids, out=y)

    def tf_columns(self) -> tuple[Any, ...]:
        return list(self.paths), self.labels

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def all_identities(self) -> NDArray[np.int64]:
        return self.labels


class Train(Photos):
    random = True
    folder = "photos"
    shrinks = antialias = False

    def dataset(self) -> Any:
        from loader_service import Dataset

        photos = Dataset.from_image_folder(data.FOLDER / self.folder, shrink_on_load=self.shrinks)
        cropped = photos.random_resized_crop(SIZE, SIZE, antialias=self.antialias)
        return cropped.random_flip().shuffle(seed=7).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        picture = decoded(i, self.paths)
        top, left, height, width = random_box(*picture.shape[:2], rng)
        finish(picture[top : top + height, left : left + width], rng, x, self.antialias)

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        from loader_service.dataset.sources.jpeg_region import kernel

        decoder = kernel()
        if decoder is None:
            super().fill(ids, rng, x, y)
            return
        for row, i in enumerate(ids.tolist()):
            with open(self.paths[i], "rb", buffering=0) as file:
                encoded = file.read()
            size = decoder.size(encoded)
            assert size is not None, "photos are common JPEGs"
            part, mirrored = random_box(*size, rng), int(rng.random() < 0.5)
            halvings = halvings_of(part) if self.antialias else (0, 0)
            target = (*halvings, SIZE, SIZE, 0, 0, SIZE, SIZE, mirrored)
            if decoder.scaled(encoded, part, target, x[row], remember=True) is None:  # no AVX2
                self.write(i, rng, x[row])
        np.take(self.labels, ids, out=y)

    def tf_sample(self, path: Any, label: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        encoded = tf.io.read_file(path)
        box = tf.zeros((1, 0, 4))
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            box,
            area_range=SCALE,
            aspect_ratio_range=RATIO,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        part = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        x = tf.image.resize(part, (SIZE, SIZE), antialias=self.antialias)
        x = tf.image.random_flip_left_right(tf.cast(tf.round(x), tf.uint8))
        return tf.ensure_shape(x, self.x[0]), label

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn, types

        encoded, label = fn.readers.file(files=list(self.paths), labels=self.labels.tolist(), shuffle_after_epoch=True)
        part = fn.decoders.image_random_crop(encoded, random_area=list(SCALE), random_aspect_ratio=list(RATIO))
        x = fn.resize(part, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=self.antialias)
        return fn.flip(x, horizontal=fn.random.coin_flip()), fn.cast(label, dtype=types.INT64)

    def ffcv(self) -> tuple[Any, ...]:
        from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
        from ffcv.transforms import RandomHorizontalFlip

        crop = RandomResizedCropRGBImageDecoder((SIZE, SIZE), scale=SCALE, ratio=RATIO)
        pipelines = {"x": [crop, RandomHorizontalFlip()], "y": [IntDecoder()]}
        return data.FOLDER / "photos-jpeg.beton", ffcv_fields("jpg"), stored, pipelines

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        off = np.abs(x.mean((0, 1, 2)) - usual_levels(self.paths))
        most = 4 * TOLERANCE * (64 / len(x)) ** 0.5  # of fewer photos, the mean varies more
        assert off.max() < most, f"red, green, blue are {off.round(1)} levels off what they are in all photos"


class Large(Train):
    samples = data.LARGE_PHOTOS
    rows = 16
    folder, shrinks = "large-photos", True
    paths = tuple(str(data.large_photo(number)) for number in range(data.LARGE_PHOTOS))
    labels = np.arange(data.LARGE_PHOTOS) // (data.LARGE_PHOTOS // data.CLASSES)


class AntialiasedLarge(Large):
    shrinks, antialias = False, True


class Evaluate(Photos):
    shuffled = False

    def dataset(self) -> Any:
        from loader_service import Dataset

        return Dataset.from_image_folder(data.FOLDER / "photos").resize(SIZE, SIZE, antialias=False).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        import cv2

        cv2.resize(decoded(i), (SIZE, SIZE), dst=x, interpolation=cv2.INTER_LINEAR)

    def tf_sample(self, path: Any, label: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        # Its own default is a faster and less exact transform: nobody else's.
        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        x = tf.cast(tf.round(tf.image.resize(picture, (SIZE, SIZE))), tf.uint8)
        return tf.ensure_shape(x, self.x[0]), label

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn, types

        encoded, label = fn.readers.file(files=list(self.paths), labels=self.labels.tolist())
        picture = fn.decoders.image(encoded)
        x = fn.resize(picture, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=False)
        return x, fn.cast(label, dtype=types.INT64)

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        off = np.abs(x[0].astype(np.int16) - self.sample(position, np.random.default_rng())[0]).mean()
        assert off < TOLERANCE, f"photo {position} is {off:.1f} levels off what OpenCV makes of it"


class EvaluateLarge(Evaluate):
    samples, rows, paths, labels = Large.samples, Large.rows, Large.paths, Large.labels
    side = SIZE + 2 * EDGE

    def dataset(self) -> Any:
        from loader_service import Dataset

        photos = Dataset.from_image_folder(data.FOLDER / "large-photos")
        return photos.resize(self.side, self.side).center_crop(SIZE, SIZE).batch(self.rows)

    def write(self, i: int, rng: np.random.Generator, x: np.ndarray) -> None:
        import cv2

        made = cv2.resize(decoded(i, self.paths), (self.side, self.side), interpolation=cv2.INTER_AREA)
        x[...] = made[EDGE:-EDGE, EDGE:-EDGE]

    def tf_sample(self, path: Any, label: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        x = tf.image.resize(picture, (self.side, self.side), antialias=True)[EDGE:-EDGE, EDGE:-EDGE]
        return tf.ensure_shape(tf.cast(tf.round(x), tf.uint8), self.x[0]), label

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn, types

        encoded, label = fn.readers.file(files=list(self.paths), labels=self.labels.tolist())
        scaled = fn.resize(fn.decoders.image(encoded), size=(self.side, self.side), interp_type=types.INTERP_LINEAR)
        return fn.crop(scaled, crop=(SIZE, SIZE)), fn.cast(label, dtype=types.INT64)


def decoded(i: int, paths: Sequence[str] = PATHS) -> np.ndarray:
    import simplejpeg

    with open(paths[i], "rb", buffering=0) as file:
        return simplejpeg.decode_jpeg(file.read(), "RGB")


def ffcv_fields(mode: str) -> dict[str, Any]:
    """Return the fields that FFCV writes: raw pixels, or JPEGs, which it encodes anew."""
    from ffcv.fields import IntField, RGBImageField

    return {"x": RGBImageField(write_mode=mode, jpeg_quality=95), "y": IntField()}


def stored(i: int) -> tuple[Any, ...]:
    return decoded(i), int(LABELS[i])


def finish(part: np.ndarray, rng: np.random.Generator, x: np.ndarray, antialias: bool = False) -> None:
    """Scale a part of a picture, and mirror it half of the time."""
    import cv2

    cv2.resize(part, (SIZE, SIZE), dst=x, interpolation=cv2.INTER_AREA if antialias else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        cv2.flip(x, 1, dst=x)


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return top, left, height, width of a part: drawn as torchvision does, ten times at most."""
    for _ in range(10):
        area = height * width * rng.uniform(*SCALE)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def halvings_of(part: tuple[int, int, int, int]) -> tuple[int, int]:
    """Return how often our kernel halves a part to antialias it, down and across."""
    from loader_service.dataset.transforms.geometry.drawing import Look, halvings_at_once
    from loader_service.dataset.transforms.geometry.moves import Cut, Target

    return halvings_at_once(Cut(*part), Target.whole(SIZE, SIZE), Look()) or (0, 0)


@cache
def usual_levels(paths: tuple[str, ...]) -> np.ndarray:
    """Return the mean of red, green and blue over some photos."""
    some = range(0, len(paths), len(paths) // 40)
    return np.mean([decoded(i, paths).mean((0, 1)) for i in some], axis=0)


TRAIN, LARGE, ANTIALIASED_LARGE = Train(), Large(), AntialiasedLarge()
EVALUATE, EVALUATE_LARGE = Evaluate(), EvaluateLarge()
CASES = [
    case_of("photos, training", TRAIN, prepare=data.make_photos),
    case_of("large photos, training", LARGE, prepare=data.make_large_photos),
    case_of("large photos, training, antialiased", ANTIALIASED_LARGE, prepare=data.make_large_photos, short=False),
    case_of("photos, evaluation", EVALUATE, prepare=data.make_photos),
    case_of("large photos, evaluation", EVALUATE_LARGE, prepare=data.make_large_photos, short=False),
]

if __name__ == "__main__":
    main("benchmarks.photos", __doc__ or "", CASES)
