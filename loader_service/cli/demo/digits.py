"""scikit-learn's handwritten digits as PNG files, and the datasets over them.

    FOLDER/train/0/0010.png ...        four of five pictures of each digit
    FOLDER/validation/0/0000.png ...   the fifth

The pictures are 8 x 8 pixels, gray. They are enlarged and cropped when they are loaded: a digit is as good a digit a
little further to the left. They are not mirrored: a mirrored 2 is none.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from loader_service.dataset.dataset import Dataset

ENLARGED = 28  # pixels, height and width
SIZE = 24  # pixels: what is cut out
BATCH = 32  # rows
SEED = 7


@dataclass(frozen=True)
class Pictures:
    """Where the pictures lie, and how many there are."""

    train: Path
    validation: Path
    train_count: int
    validation_count: int

    @property
    def count(self) -> int:
        """Pictures in all."""
        return self.train_count + self.validation_count


def write_pictures(folder: Path) -> Pictures:
    """Write all 1,797 of them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    gray = np.round(digits.images * (255 / 16)).astype(np.uint8)  # they have 17 shades, 0 to 16
    seen = dict.fromkeys(range(10), 0)
    counts = {"train": 0, "validation": 0}
    for number, (picture, label) in enumerate(zip(gray, digits.target.tolist(), strict=True)):
        split = "validation" if seen[label] % 5 == 0 else "train"
        seen[label] += 1
        counts[split] += 1
        path = folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return Pictures(folder / "train", folder / "validation", counts["train"], counts["validation"])


def train_dataset(pictures: Pictures) -> Dataset:
    """Return the digits, enlarged, cut out somewhere, shuffled."""
    return (
        Dataset.from_image_folder(pictures.train, color="grayscale")
        .resize(ENLARGED, ENLARGED)
        .random_crop(SIZE, SIZE)
        .shuffle(seed=SEED)
        .batch(BATCH)
    )


def validation_dataset(pictures: Pictures) -> Dataset:
    """Return the digits, enlarged, cut out in the middle, in order."""
    return (
        Dataset.from_image_folder(pictures.validation, color="grayscale")
        .resize(ENLARGED, ENLARGED)
        .center_crop(SIZE, SIZE)
        .batch(BATCH)
    )
