"""A model with two inputs: a picture, and fifty numbers that were measured beside it.

    python examples/two_inputs.py --epochs 2

The data are made up: where the bright line of a picture stands and one of the numbers decide together, so that neither
is enough. Fields are matched to the model's inputs by name.
"""

import argparse

import keras
import numpy as np

import loader_client
from loader_service import Dataset

SIZE, FEATURES, SAMPLES = 24, 50, 2400


def main() -> None:
    """Train with both inputs, and say how often the model is right."""
    parser = argparse.ArgumentParser(description="Train a model of two inputs.")
    parser.add_argument("--epochs", type=int, default=6)
    epochs = parser.parse_args().epochs

    fields, split = make_data(), SAMPLES * 3 // 4
    train, held_out = (
        Dataset.from_arrays(**{name: array[part] for name, array in fields.items()})
        for part in (slice(split), slice(split, None))
    )
    train = train.random_flip(horizontal=0, vertical=0.5).shuffle(seed=7).batch(32)

    inputs = ["image", "features"]
    with loader_client.connect() as loader:
        training, validation = loader.stream(train), loader.stream(held_out.batch(100))
        print("each batch:", ", ".join(f"{name} {array.shape}" for name, array in training.peek(0).items()))
        model = build_model()
        model.fit(training.keras(inputs), validation_data=validation.keras(inputs), epochs=epochs)
        _, accuracy = model.evaluate(validation.keras(inputs), verbose=0)
    print(f"{accuracy:.0%} of {SAMPLES - split} that it has not seen are right; a coin is right for 50%")


def build_model() -> keras.Model:
    """Return a model whose inputs bear the names of the fields."""
    layers = keras.layers
    image, features = keras.Input((SIZE, SIZE, 1), name="image"), keras.Input((FEATURES,), name="features")
    seen = layers.Flatten()(layers.MaxPooling2D(4)(layers.Rescaling(1 / 255)(image)))
    both = layers.Dense(32, activation="relu")(layers.Concatenate()([seen, features]))
    model = keras.Model({"image": image, "features": features}, layers.Dense(1, activation="sigmoid")(both))
    model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy", metrics=["accuracy"])
    return model


def make_data() -> dict[str, np.ndarray]:
    """Return pictures, numbers, and labels, one row for each sample."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 100, (SAMPLES, SIZE, SIZE, 1), dtype=np.uint8)
    column = rng.integers(0, SIZE, SAMPLES)
    image[np.arange(SAMPLES), :, column] = 255
    features = rng.normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    return {"image": image, "features": features, "label": 4 * column / SIZE - 2 + features[:, 0] > 0}


if __name__ == "__main__":
    main()
