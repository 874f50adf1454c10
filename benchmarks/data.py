"""The data of all workloads: made once, into one folder, and read from there ever after.

    volumes/ID.npy, volumes.npy     4,096 of 32 x 32 x 32 x 1 float32; the first number of each is its own number
    photos/CLASS/NUMBER.jpg         2,000 JPEGs of about 500 x 375, 60 to 110 KB, in ten classes
    large-photos/CLASS/NUMBER.jpg   300 JPEGs of 4,000 x 3,000, 2 MB, in ten classes: 60 files with five names each
    arrays.npy                      20,000 of 64 x 64 x 3 uint8
    numbers-COUNT.npy               the int64 numbers from 0 on, in case that scaling.py asks for them
    table.npy                       1,000,000 rows of 32 float32; the first number of each is its own number

Photos are cut out of the pictures that scikit-image and scikit-learn bring along, at random places and scales,
mirrored, brighter or darker, so that no two are alike. The page cache is warm: what has been there is read before
anything is measured, since a warm-up may be over before it has come to all of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ.get("BENCHMARKS_DATA", Path(tempfile.gettempdir()) / "loader-service-benchmarks"))
CLASSES = 10

VOLUMES = 4096
VOLUME_SHAPE = (32, 32, 32, 1)
PHOTOS = 2000
PHOTO_BYTES = range(60_000, 110_001)
LARGE_PHOTOS, LARGE_FILES = 300, 60
LARGE_SHAPE = (3000, 4000)
ARRAYS = (20_000, 64, 64, 3)
TABLE = (1_000_000, 32)


def volume(number: int) -> Path:
    return FOLDER / "volumes" / f"id-{number}.npy"


def photo(number: int) -> Path:
    """Return where a photo is: those of a class lie together, as a sorted listing has them."""
    each = PHOTOS // CLASSES
    return FOLDER / "photos" / f"class-{number // each}" / f"{number % each:04}.jpg"


def large_photo(number: int) -> Path:
    each = LARGE_PHOTOS // CLASSES
    return FOLDER / "large-photos" / f"class-{number // each}" / f"{number % each:04}.jpg"


def make_volumes() -> None:
    _once(FOLDER / "volumes.npy", _write_volumes, "volumes/*.npy")


def make_photos() -> None:
    _once(FOLDER / "photos.made", _write_photos, "photos/*/*.jpg")


def make_large_photos() -> None:
    _once(FOLDER / "large-photos.made", _write_large_photos, "large-photos/*/*.jpg")


def make_arrays() -> None:
    _once(FOLDER / "arrays.npy", _write_arrays)


def make_table() -> None:
    _once(FOLDER / "table.npy", _write_table)


def numbers(count: int) -> Path:
    return FOLDER / f"numbers-{count}.npy"


def make_numbers(counts: Iterable[int]) -> None:
    for count in counts:
        _once(numbers(count), lambda path, count=count: np.save(path, np.arange(count)))  # type: ignore[misc]


def _once(made: Path, write: Callable[[Path], None], besides: str = "") -> None:
    """Write what is not there, and read what is; what was broken off half-way is written again.

    Args:
        besides: The files that are written as well.
    """
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        part = made.with_name(f"part-{made.name}")
        write(part)
        part.rename(made)
        return
    for path in (made, *(made.parent.glob(besides) if besides else ())):
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def _write_volumes(packed: Path) -> None:
    volumes = np.random.default_rng(7).standard_normal((VOLUMES, *VOLUME_SHAPE), np.float32)
    volumes[:, 0, 0, 0, 0] = np.arange(VOLUMES)
    volume(0).parent.mkdir(exist_ok=True)
    for number, values in enumerate(volumes):
        np.save(volume(number), values)
    np.save(packed, volumes)


def _write_arrays(path: Path) -> None:
    np.save(path, np.random.default_rng(7).integers(0, 256, ARRAYS, np.uint8))


def _write_table(path: Path) -> None:
    table = np.random.default_rng(7).standard_normal(TABLE, np.float32)
    table[:, 0] = np.arange(len(table))
    np.save(path, table)


def _pictures() -> list[np.ndarray]:
    from skimage import data as scikit_image
    from sklearn.datasets import load_sample_images

    shipped = [scikit_image.astronaut(), scikit_image.cat(), scikit_image.coffee(), scikit_image.rocket()]
    return [*shipped, *load_sample_images().images]


def _write_large_photos(made: Path) -> None:
    import cv2

    pictures = _pictures()
    for number in range(LARGE_PHOTOS):
        path, first = large_photo(number), large_photo(number % LARGE_FILES)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if path != first:
            path.hardlink_to(first)
            continue
        rng = np.random.default_rng((8, number))
        picture = pictures[number % len(pictures)]
        picture = cv2.resize(picture, LARGE_SHAPE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
        picture += cv2.randn(np.empty_like(picture), (0, 0, 0), (5, 5, 5))  # what a sensor adds
        picture *= rng.uniform(0.7, 1.3)
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    made.write_text(f"{LARGE_PHOTOS} photos\n")


def _write_photos(made: Path) -> None:
    import cv2

    pictures = _pictures()
    for number in range(PHOTOS):
        rng = np.random.default_rng((7, number))
        path = photo(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = _variation(pictures[rng.integers(len(pictures))], rng)
        path.write_bytes(_encoded(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)))
    made.write_text(f"{PHOTOS} photos\n")


def _variation(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    import cv2

    height, width = int(rng.integers(345, 406)), int(rng.integers(460, 541))
    scale = min(picture.shape[0] / height, picture.shape[1] / width) * rng.uniform(0.7, 1.0)
    rows, columns = int(height * scale), int(width * scale)
    top = int(rng.integers(picture.shape[0] - rows + 1))
    left = int(rng.integers(picture.shape[1] - columns + 1))
    part = picture[top : top + rows, left : left + columns]
    part = cv2.resize(part[:, ::-1] if rng.random() < 0.5 else part, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 4, part.shape)  # what a sensor adds, and an enlarged picture has lost
    return np.clip(part * rng.uniform(0.7, 1.3) + grain, 0, 255).astype(np.uint8)


def _encoded(picture: np.ndarray) -> bytes:
    """Encode in the quality that makes the file neither too small nor too large."""
    import cv2

    low, high = 40, 100
    while low < high:
        quality = (low + high) // 2
        encoded = bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        if len(encoded) in PHOTO_BYTES:
            return encoded
        low, high = (quality + 1, high) if len(encoded) < PHOTO_BYTES.start else (low, quality)
    raise ValueError(f"no quality makes a file of {PHOTO_BYTES.start:,} to {PHOTO_BYTES.stop:,} bytes of this picture")
