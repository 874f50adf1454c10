"""Segment volumes that are too large for the model: train on random patches, predict a grid of them, stitch.

    python examples/patches.py --epochs 2

The scans are made up: bright balls in noise, each scan of another size, and a mask that says where the balls are. Yours
are `.npy` files, too; they are mapped, and only the patches of them are read.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

import loader_client
from loader_service import Dataset

PATCH = (24, 24, 24)  # voxels


def main() -> None:
    """Train on all scans but the last, and segment that one."""
    parser = argparse.ArgumentParser(description="Train on random patches of volumes, predict whole volumes.")
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs

    with tempfile.TemporaryDirectory() as folder, loader_client.connect() as loader:
        scans, masks = make_scans(Path(folder), count=4)
        patches = Dataset.from_volumes(scans[:-1], y=masks[:-1], repeat=40).random_patch(PATCH, field=["x", "y"])
        training = loader.stream(patches.shuffle(seed=7).batch(8))
        print(f"{training.samples} patches of {len(scans) - 1} scans in each epoch, other ones each time")

        layers = keras.layers
        model = keras.Sequential([keras.Input(PATCH), layers.Reshape((*PATCH, 1))])
        model.add(layers.Conv3D(4, 3, padding="same", activation="relu"))
        model.add(layers.Conv3D(1, 1, activation="sigmoid"))
        model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
        model.fit(training.keras(), epochs=epochs)

        grid = Dataset.from_patches(scans[-1], size=PATCH, overlap=8).batch(8)
        (predicted,) = grid.stitch(model.predict(loader.stream(grid).keras()))
        truth = np.load(masks[-1])
        right = ((predicted[..., 0] > 0.5) == truth).mean()
        print(f"a scan of {truth.shape}, stitched of {grid.samples} patches: {right:.1%} of its voxels are right")


def make_scans(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Write scans and their masks; return the files of both, in the same order."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = rng.integers(40, 60, 3)
        places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        balls = [np.linalg.norm(places - rng.integers(0, shape), axis=-1) < rng.integers(5, 12) for _ in range(6)]
        mask = np.any(balls, axis=0)
        np.save(folder / f"scan-{number}.npy", (mask + rng.normal(0, 0.4, shape)).astype(np.float32))
        np.save(folder / f"mask-{number}.npy", mask.astype(np.uint8))
    return [[folder / f"{kind}-{number}.npy" for number in range(count)] for kind in ("scan", "mask")]


if __name__ == "__main__":
    main()
