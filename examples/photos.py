"""Train a small network on pictures in class folders; go on where the last run ended.

    python examples/photos.py photos/train photos/validation --epochs 2

Each folder holds a sub-folder of pictures for each class. The training is backed up in `photos-backups`: kill the
script whenever you like and run it again, or run it with more epochs, and it goes on from there. It joins the daemon
at the default address, or starts a private one where none runs.
"""

import argparse

import keras

import loader_client
from loader_service import Dataset

SIZE = 96  # pixels, height and width
BACKUPS = "photos-backups"
EVERY = 50  # batches from one backup to the next


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
        model.fit(
            training.keras(),
            validation_data=held_out.keras(),
            epochs=options.epochs,
            callbacks=[training.backup_callback(BACKUPS, every=EVERY)],
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
