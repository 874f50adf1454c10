"""Sequences of 5 to 200 steps: each batch is padded to its own longest, and a mask says where there are steps.

    python examples/sequences.py --epochs 2

The sequences are made up: noise around a level of their own, which is to be found high or low. The mean of a padded
row would say too little of a short one.
"""

import argparse

import keras
import numpy as np

import loader_client
from loader_service import Dataset

FEATURES, SEQUENCES = 10, 4000


def main() -> None:
    """Train on three quarters of the sequences, and check with the others."""
    parser = argparse.ArgumentParser(description="Train on sequences that differ in length.")
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs

    sequences, labels = make_data()
    split = SEQUENCES * 3 // 4
    train = Dataset.from_arrays(x=sequences[:split], y=labels[:split]).pad("x", mask="mask").shuffle(seed=7).batch(64)
    check = Dataset.from_arrays(x=sequences[split:], y=labels[split:]).pad("x", mask="mask").batch(64)

    inputs = ["x", "mask"]
    with loader_client.connect() as loader:
        training, held_out = loader.stream(train), loader.stream(check)
        for n in range(3):
            batch = training.peek(n)
            print(f"batch {n}: x {batch['x'].shape}, of which {1 - batch['mask'].mean():.0%} are padding")
        model = build_model()
        model.fit(training.keras(inputs), validation_data=held_out.keras(inputs), epochs=epochs)
        _, accuracy = model.evaluate(held_out.keras(inputs), verbose=0)
    print(f"{accuracy:.0%} of {held_out.samples:,} sequences that it has not seen are right; a coin is right for 50%")


def build_model() -> keras.Model:
    """Return a model of a sequence and its mask, of any length."""
    layers = keras.layers
    x, mask = keras.Input((None, FEATURES), name="x"), keras.Input((None,), dtype="bool", name="mask")
    level = layers.GlobalAveragePooling1D()(layers.Dense(16, activation="relu")(x), mask=mask)
    model = keras.Model({"x": x, "mask": mask}, layers.Dense(1, activation="sigmoid")(level))
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model


def make_data() -> tuple[list[np.ndarray], np.ndarray]:
    """Return float32 sequences of shape (steps, FEATURES), and the label of each."""
    rng = np.random.default_rng(0)
    levels = rng.random(SEQUENCES, dtype=np.float32)
    steps = rng.integers(5, 201, SEQUENCES)
    noise = (rng.normal(0, 0.5, (count, FEATURES)).astype(np.float32) for count in steps)
    return [level + row for level, row in zip(levels, noise, strict=True)], (levels > 0.5).astype(np.int64)


if __name__ == "__main__":
    main()
