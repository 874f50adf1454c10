"""One dataset of every kind there is: sources, shapes of samples, shapes of batches, choices of samples.

Whatever is added to `KINDS` is tested for all that holds of every dataset: see test_every_kind.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from loader_service import Dataset

SAMPLES = 46
Kind = Callable[[Path], Dataset]  # a folder of its own, for files -> the dataset


def lengths() -> np.ndarray:
    """Return how long each sample is: from none to twelve entries."""
    return np.random.default_rng(4).integers(0, 13, SAMPLES)


def rows() -> list[np.ndarray]:
    """Return sequences of three features, whose numbers tell the sample and the step."""
    return [np.arange(3 * k, dtype=np.float32).reshape(k, 3) + 100 * i for i, k in enumerate(lengths())]


class Sentences:
    """A user's own source: a sequence, a label and a string."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"x": rows()[i], "label": i % 3, "said": "é" * (i % 7)}


def cut_short(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Keep a random part of a sequence."""
    return {**sample, "x": sample["x"][: rng.integers(0, len(sample["x"]) + 1)]}


def mix_up(batch: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Mix each row with another one of its batch."""
    other, share = rng.permutation(len(batch["x"])), rng.random(dtype=np.float32)
    return {**batch, "x": share * batch["x"] + (1 - share) * batch["x"][other]}


def _arrays(folder: Path) -> Dataset:
    x = np.arange(SAMPLES * 5, dtype=np.float32).reshape(SAMPLES, 5)
    return Dataset.from_arrays(x=x, y=np.arange(SAMPLES) % 4)


def _files(folder: Path) -> Dataset:
    for i, row in enumerate(rows()):
        np.save(folder / f"{i:02d}.npy", row)
    return Dataset.from_npy_files(folder, labels=np.arange(SAMPLES) % 2)


def _sentences(folder: Path) -> Dataset:
    return Dataset.from_python("tests.end_to_end.kinds:Sentences")


class Pairs:
    """A user's own source, as it is written for PyTorch: picture, label and weight."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> tuple[np.ndarray, int, float]:
        return np.random.random((4, 5)), i % 3, i / SAMPLES


def _volumes(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write two volumes of different sizes, and a mask of each."""
    paths = [(folder / f"x{number}.npy", folder / f"y{number}.npy") for number in range(2)]
    for (x, y), shape in zip(paths, ((9, 8, 7), (6, 12, 10)), strict=True):
        volume = np.arange(np.prod(shape)).reshape(shape)
        np.save(x, volume)
        np.save(y, volume % 2 == 0)
    return [x for x, _ in paths], [y for _, y in paths]


def _patches(folder: Path) -> Dataset:
    x, y = _volumes(folder)
    return Dataset.from_patches(x, y=y, size=(4, 5, 6), overlap=(1, 2, 3))


def _random_patches(folder: Path) -> Dataset:
    x, y = _volumes(folder)
    return Dataset.from_volumes(x, y=y, repeat=SAMPLES // 2).random_patch((4, 5, 6), field=["x", "y"])


def _pictures(folder: Path) -> list[Path]:
    """Write pictures of four classes and of many sizes, each with a mask beside it."""
    paths = []
    for i in range(SAMPLES):
        path = folder / "abcd"[i % 4] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        picture = np.arange(9 * (8 + i) * 3).reshape(9, 8 + i, 3) * (i + 1) % 256
        cv2.imwrite(str(path), picture.astype(np.uint8))
        mask = folder / "masks" / f"{i:02d}_mask.png"
        mask.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(mask), (picture[..., 0] > 99).astype(np.uint8))
        paths.append(path)
    return paths


def _image_folder(folder: Path) -> Dataset:
    (folder / "photos").mkdir()
    _pictures(folder / "photos")
    shutil.rmtree(folder / "photos" / "masks")
    return Dataset.from_image_folder(folder / "photos")


def _listed(folder: Path) -> Dataset:
    paths = _pictures(folder)
    return Dataset.from_files(paths, {"grade": np.arange(SAMPLES) / 7, "tags": np.eye(SAMPLES, 5, dtype=bool)})


def _csv(folder: Path) -> Dataset:
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in _pictures(folder)]
    (folder / "table.csv").write_text("\n".join(["path,kind", *lines]))
    return Dataset.from_table(folder / "table.csv", labels="kind")


def _masked(folder: Path) -> Dataset:
    (folder / "images").mkdir()
    for path in _pictures(folder):
        path.rename(folder / "images" / path.name)
    return Dataset.from_paired_files(image=folder / "images/*.png", mask=folder / "masks/*_mask.png")


def _packed(dataset: Dataset, folder: Path) -> Dataset:
    dataset.pack(folder / "all.pack")
    return Dataset.from_pack(folder / "all.pack")


class Whole:
    """A user's Sequence, as Keras takes it: batches of different lengths, in another order after each epoch."""

    def __init__(self) -> None:
        self.order = np.arange(12)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        rows, number = 1 + 40 * (i == 7) + i % 3, self.order[i]
        return np.random.random((rows, 5)), {"one": np.full(rows, number), "other": np.zeros((rows, 2, 0), bool)}

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


def corner_of_both(sample: dict[str, Any]) -> dict[str, Any]:
    """Keep a part of a picture, and the same one of its mask."""
    return {name: sample[name][:7, :6] for name in ("image", "mask")}


def many_at_once(rows: dict[str, Any], rng: Any) -> dict[str, Any]:
    """Add noise to some hundred rows at a time, and another field."""
    return {**rows, "x": rows["x"] + rng.normal(0, 1, rows["x"].shape[1:]), "kind": rng.integers(0, 4)}


class Turning:
    """A callable of albumentations' form."""

    def set_random_state(self, numbers: np.random.Generator, python: Any) -> None:
        """Take generators."""
        self.numbers = numbers

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Turn a picture round, or not."""
        return {"image": image[::-1] if self.numbers.random() < 0.5 else image}


turning = Turning()


def _coloured(folder: Path) -> Dataset:
    """Return pictures to which everything is done that changes values, and not places."""
    jittered = _image_folder(folder).resize(6, 5).color_jitter(0.4, 0.4, 0.4, 0.1, probability=0.8).random_gamma(0.2)
    blurred = jittered.random_channel_shift(20).random_blur().random_noise((1, 9)).random_jpeg().random_sharpness(0.5)
    drawn = blurred.random_posterize(4).random_solarize().random_equalize().random_autocontrast().random_invert(0.1)
    return drawn.random_grayscale().rand_augment(2, 20).random_erasing(boxes=2, fill="noise")


def small(sample: dict[str, Any]) -> bool:
    """Keep most rows of `_arrays`."""
    return bool(sample["x"].sum() < 900)


def _joined(folder: Path) -> list[Dataset]:
    """Return sequences of three sources, in each some of them."""
    arrays = Dataset.from_arrays(x=rows(), label=np.arange(SAMPLES) % 4)
    said = _sentences(folder).map("tests.end_to_end.kinds:without_what_was_said")
    return [arrays.filter(label=[0, 3]), _files(folder).skip(30), said.take(9)]


def without_what_was_said(sample: dict[str, Any]) -> dict[str, Any]:
    """Keep what all sources of `_joined` have."""
    return {"x": sample["x"], "label": np.int64(sample["label"])}


KINDS: dict[str, Kind] = {
    "arrays": lambda folder: _arrays(folder).one_hot("y", 4).shuffle(1).batch(8),
    "arrays, padded batch": lambda folder: _arrays(folder).shuffle(1).batch(8, remainder="pad"),
    "sequences, padded to the longest": lambda folder: (
        Dataset.from_arrays(x=rows(), y=np.arange(SAMPLES)).pad("x", mask="mask", lengths="length").shuffle(2).batch(8)
    ),
    "sequences, padded to one length": lambda folder: (
        _files(folder).pad("x", to=12, value=-1, mask="mask", lengths="length").shuffle(2).batch(8)
    ),
    "sequences, padded batch": lambda folder: (
        Dataset.from_arrays(x=rows()).pad("x", lengths="length").shuffle(2).batch(8, remainder="pad")
    ),
    "sequences, in buckets": lambda folder: (
        Dataset.from_arrays(x=rows(), y=np.arange(SAMPLES))
        .bucket_by_length("x", [5, 9])
        .pad("x", to="bucket", mask="mask")
        .shuffle(2)
        .batch(4)
    ),
    "sequences in buckets, padded batches": lambda folder: (
        _files(folder)
        .bucket_by_length("x", [5, 30], lengths=lengths())
        .pad("x", most=12)
        .shuffle(2)
        .batch(6, remainder="pad")
    ),
    "sequences, ragged": lambda folder: Dataset.from_arrays(x=rows()).ragged("x").shuffle(3).batch(8),
    "sequences of files, cut at random": lambda folder: (
        _files(folder).map("tests.end_to_end.kinds:cut_short").pad("x", most=12).shuffle(5).batch(8)
    ),
    "text": lambda folder: _sentences(folder).pad("x", most=12).shuffle(5).batch(8),
    "batches mixed up": lambda folder: (
        _arrays(folder).map_batch("tests.end_to_end.kinds:mix_up").shuffle(6).batch(8, remainder="drop")
    ),
    "padded batches mixed up": lambda folder: (
        _sentences(folder).pad("x", most=12).map_batch("tests.end_to_end.kinds:mix_up").shuffle(6).batch(8)
    ),
    "pictures": lambda folder: (
        _image_folder(folder).random_resized_crop(6, 5).random_flip().one_hot("label", 4).shuffle(4).batch(8)
    ),
    "pictures, coloured": lambda folder: _coloured(folder).standardize().shuffle(4).batch(8),
    "pictures, mixed": lambda folder: (
        _coloured(folder).one_hot("label", 4).mixup().cutmix(probability=0.5).shuffle(4).batch(8, "pad")
    ),
    "rows that a function takes many of": lambda folder: (
        _arrays(folder).map_rows("tests.end_to_end.kinds:many_at_once").rescale(2, field="x").shuffle(5).batch(8)
    ),
    "pictures that a transform of another package turns": lambda folder: (
        _image_folder(folder).resize(4, 4).albumentations("tests.end_to_end.kinds:turning").shuffle(4).batch(8)
    ),
    "pictures that are kept": lambda folder: (
        _image_folder(folder).cache(path=folder / "kept").random_resized_crop(6, 5).random_flip().shuffle(4).batch(8)
    ),
    "joined, and kept": lambda folder: (
        Dataset.concat(*_joined(folder))
        .cache(path=folder / "kept")
        .map("tests.end_to_end.kinds:cut_short")
        .pad("x", most=12)
        .shuffle(9)
        .batch(8)
    ),
    "pictures of a list, with labels of several kinds": lambda folder: (
        _listed(folder).resize(4, 4).rescale(1 / 255).shuffle(4).batch(8, "pad")
    ),
    "pictures of a table": lambda folder: _csv(folder).resize(4, 4).shuffle(4).batch(8),
    "pictures and their masks": lambda folder: (
        _masked(folder).map("tests.end_to_end.kinds:corner_of_both").shuffle(4).batch(8)
    ),
    "pictures and their masks, of a pack": lambda folder: (
        _packed(_masked(folder), folder).map("tests.end_to_end.kinds:corner_of_both").shuffle(4).batch(8)
    ),
    "sequences of a pack": lambda folder: _packed(_files(folder), folder).pad("x", most=12).shuffle(5).batch(8),
    "windows": lambda folder: (
        Dataset.from_series(np.arange(150), np.arange(150), length=12, stride=3, offset=12).shuffle(7).batch(8)
    ),
    "windows of recordings": lambda folder: (
        Dataset.from_series(rows(), length=4).rescale(2, field="x").shuffle(7).batch(8)
    ),
    "a grid of patches": lambda folder: _patches(folder).shuffle(8).batch(8),
    "random patches": lambda folder: _random_patches(folder).rescale(0.5, field="x").shuffle(9).batch(8),
    "pairs, as written for PyTorch": lambda folder: (
        Dataset.from_python("tests.end_to_end.kinds:Pairs").shuffle(9).batch(8)
    ),
    "filtered": lambda folder: (
        _arrays(folder).skip(2).filter("tests.end_to_end.kinds:small").filter(y=[0, 1, 3]).shuffle(7).batch(4, "pad")
    ),
    "split": lambda folder: _files(folder).split(0.3, stratify="label")[0].pad("x", to=12).shuffle(7).batch(4),
    "balanced": lambda folder: _sentences(folder).balanced().ragged("x", most=12).shuffle(8).batch(8),
    "weighted": lambda folder: _arrays(folder).weighted(np.arange(SAMPLES), samples=30).batch(4),
    "concatenated": lambda folder: (
        Dataset.concat(*_joined(folder)).pad("x", most=12, mask="mask").shuffle(9).batch(8, "pad")
    ),
    "mixed": lambda folder: (
        Dataset.mix(_joined(folder), weights=[3, 1, 2])
        .map("tests.end_to_end.kinds:cut_short")
        .pad("x", most=12)
        .map_batch("tests.end_to_end.kinds:mix_up")
        .shuffle(9)
        .batch(8, "drop")
    ),
}

#: Those whose source makes batches, not samples: they cannot be cut into shards.
WHOLE_KINDS: dict[str, Kind] = {
    "a Sequence": lambda folder: Dataset.from_keras("tests.end_to_end.kinds:Whole", seed=3),
    "a Sequence whose batches are shuffled": lambda folder: Dataset.from_keras(
        "tests.end_to_end.kinds:Whole", seed=3
    ).shuffle(4),
}
