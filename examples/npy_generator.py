"""From a hand-written Keras generator over `.npy` files to a stream: what goes, and what stays.

    python examples/npy_generator.py volumes

This is the class that many of us have copied, with its arguments:

    class DataGenerator(keras.utils.Sequence):
        def __init__(self, list_IDs, labels, batch_size=32, dim=(32, 32, 32), n_channels=1,
                     n_classes=10, shuffle=True): ...
        def __len__(self): ...
        def __getitem__(self, index): ...        # np.load("data/" + ID + ".npy") for each of a batch
        def on_epoch_end(self): ...              # shuffles the indexes

    list_IDs, labels   the same list, the same dict: `from_npy_files(folder, ids, labels)`
    dim, n_channels    are read from the first file
    batch_size         `.batch(32)`
    n_classes          `.one_hot("label", 2)`
    shuffle            `.shuffle(seed=7)`, which can be repeated

The class itself goes, and with it `workers=`, `use_multiprocessing=` and `max_queue_size=`.
"""

import argparse
from pathlib import Path

import keras

import loader_client
from loader_service import Dataset

CLASSES = 2


def main() -> None:
    """Train for two epochs."""
    parser = argparse.ArgumentParser(description="Train on .npy files, one a sample.")
    parser.add_argument("folder", help="folder with one .npy file for each sample, all of one shape")
    folder = parser.parse_args().folder

    ids = sorted(path.stem for path in Path(folder).glob("*.npy"))
    labels = {name: number % CLASSES for number, name in enumerate(ids)}  # yours come from a table
    split = len(ids) * 3 // 4
    train = Dataset.from_npy_files(folder, ids[:split], labels).one_hot("label", CLASSES).shuffle(seed=7).batch(8)
    validation = Dataset.from_npy_files(folder, ids[split:], labels).one_hot("label", CLASSES).batch(8)

    with loader_client.connect() as loader:
        training, held_out = loader.stream(train), loader.stream(validation)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input(training.spec["x"].shape),
                layers.Flatten(),
                layers.Dense(16, activation="relu"),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        model.fit(training.keras(), validation_data=held_out.keras(), epochs=2)


if __name__ == "__main__":
    main()
