"""Train a small network on pictures in class folders; go on where the last run ended.

    python examples/photos.py photos/train photos/validation --epochs 2

Each folder holds a sub-folder of pictures for each class. Weights and the stream's state are saved after every epoch in
`photos.weights.h5` and `photos.json`: run the script again, with more epochs, and it goes on from there. It joins the
daemon at the default address, or starts a private one where none runs.
"""

import argparse
import json
from pathlib import Path

import keras

import loader_client
from loader_service import Dataset

SIZE = 96  # pixels, height and width
WEIGHTS, STATE = Path("photos.weights.h5"), Path("photos.json")


def main() -> None:
    """Train, from the start or from where the last run ended."""
    parser = argparse.ArgumentParser(description="Train a small network on pictures in class folders.")
    parser.add_argument("train", help="folder with a sub-folder of pictures for each class")
    parser.add_argument("validation", help="the same classes, other pictures")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    train = Dataset.from_image_folder(options.train).random_resized_crop(SIZE, SIZE).random_flip()
    validation = Dataset.from_image_folder(options.validation).resize(SIZE, SIZE)

    with loader_client.connect() as loader:
        training = loader.stream(train.shuffle(seed=7).batch(32))
        held_out = loader.stream(validation.batch(32))
        model = build_model(len(training.class_names))
        epoch = 0
        if STATE.exists():
            saved = json.loads(STATE.read_text())
            epoch = saved["epoch"]
            training.load_state_dict(saved["stream"])
            model.load_weights(WEIGHTS)

        def save(epoch: int, logs: dict[str, float]) -> None:
            model.save_weights(WEIGHTS)
            STATE.write_text(json.dumps({"epoch": epoch + 1, "stream": training.state_dict()}))

        model.fit(
            training.keras(),
            validation_data=held_out.keras(),
            initial_epoch=epoch,
            epochs=options.epochs,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=save)],
        )
        waited = training.stats()["waited_seconds"]
        print(f"the trainer waited {waited:.1f} s for data")


def build_model(classes: int) -> keras.Model:
    """Return a small convolutional network."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 5, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main()
