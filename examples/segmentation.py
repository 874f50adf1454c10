"""Segment pictures: each with its mask, matched by the name of their files, and cut at the same place.

    python examples/segmentation.py --epochs 2

The pictures are made up: bright discs on a spotted ground, and masks of 1 where a disc is. They lie as yours may:
`images/image_007.png`, `masks/mask_007.png`.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import keras
import numpy as np

import loader_client
from loader_service import Dataset

SIZE = 64  # pixels, height and width of what is cut out


def main() -> None:
    """Train on parts of some pictures, and say how well the discs of others are found."""
    parser = argparse.ArgumentParser(description="Train on pictures with masks, matched by name.")
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs

    with tempfile.TemporaryDirectory() as folder, loader_client.connect() as loader:
        make_pictures(Path(folder), {"train": 240, "check": 40})
        train, check = (
            Dataset.from_paired_files(
                image=f"{folder}/{part}/images/image_*.png", mask=f"{folder}/{part}/masks/mask_*.png"
            )
            for part in ("train", "check")
        )
        parts = train.random_patch((SIZE, SIZE), field=["image", "mask"]).shuffle(seed=7).batch(16)
        middle = check.center_crop(SIZE, SIZE).center_crop(SIZE, SIZE, field="mask").batch(20)
        training, held_out = (loader.stream(dataset).keras("image", "mask") for dataset in (parts, middle))

        layers = keras.layers
        model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 60, offset=-2)])
        model.add(layers.Conv2D(8, 5, padding="same", activation="relu"))
        model.add(layers.Conv2D(1, 5, padding="same", activation="sigmoid"))
        metrics = [keras.metrics.BinaryIoU([1], name="overlap")]
        model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=metrics)
        model.fit(training, validation_data=held_out, epochs=epochs)
        _, overlap = model.evaluate(held_out, verbose=0)
    print(f"predicted and true discs overlap by {overlap:.0%}, in pictures that it has not seen")


def make_pictures(folder: Path, counts: dict[str, int]) -> None:
    """Write pictures of different sizes, and their masks."""
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(SIZE, 2 * SIZE, 2).tolist()
            mask = np.zeros((height, width), np.uint8)
            for _ in range(4):
                cv2.circle(mask, rng.integers(0, (width, height)).tolist(), int(rng.integers(6, 18)), 1, -1)
            picture = rng.integers(0, 120, (height, width, 3)) + 120 * mask[..., None]
            cv2.imwrite(str(folder / part / "images" / f"image_{number:03}.png"), picture.astype(np.uint8))
            cv2.imwrite(str(folder / part / "masks" / f"mask_{number:03}.png"), mask)


if __name__ == "__main__":
    main()
