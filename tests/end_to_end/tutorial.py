"""The well-known tutorial's generator of volumes, one file a sample, in a script of its own. Prints what it saw."""

import json
import sys
from pathlib import Path

import keras
import numpy as np

import loader_client

FOLDER = Path(sys.argv[-1])


class DataGenerator(keras.utils.PyDataset):
    """Generates data for Keras."""

    def __init__(self, list_IDs, labels, batch_size=32, dim=(32, 32, 32), n_channels=1, n_classes=10, shuffle=True):
        super().__init__()
        self.dim = dim
        self.batch_size = batch_size
        self.labels = labels
        self.list_IDs = list_IDs
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.shuffle = shuffle
        self.on_epoch_end()

    def __len__(self):
        return int(np.floor(len(self.list_IDs) / self.batch_size))

    def __getitem__(self, index):
        indexes = self.indexes[index * self.batch_size : (index + 1) * self.batch_size]
        list_IDs_temp = [self.list_IDs[k] for k in indexes]
        X, y = self.__data_generation(list_IDs_temp)
        return X, y

    def on_epoch_end(self):
        self.indexes = np.arange(len(self.list_IDs))
        if self.shuffle:
            np.random.shuffle(self.indexes)

    def __data_generation(self, list_IDs_temp):
        X = np.empty((self.batch_size, *self.dim, self.n_channels))
        y = np.empty((self.batch_size), dtype=int)
        for i, ID in enumerate(list_IDs_temp):
            X[i,] = np.load(FOLDER / (ID + ".npy"))
            y[i] = self.labels[ID]
        return X, keras.utils.to_categorical(y, num_classes=self.n_classes)


class Watch(keras.callbacks.Callback):
    """Counts the steps of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1


def make():
    """Return the generator of the tutorial's main script, over fewer and smaller files."""
    ids = [f"id-{number}" for number in range(24)]
    labels = {ID: number % 3 for number, ID in enumerate(ids)}
    return DataGenerator(ids, labels, batch_size=4, dim=(8, 8, 8), n_classes=3)


def epochs(stream):
    """Return the samples of two epochs, in order, after a look at whether each has its own label."""
    seen, batches = [], stream.generator()
    for _ in range(2):
        seen.append([])
        for _ in range(len(stream)):
            X, y = next(batches)
            assert (X.shape, X.dtype, y.shape) == ((4, 8, 8, 8, 1), np.float64, (4, 3))
            assert (y.argmax(-1) == X[:, 0, 0, 0, 0] % 3).all()
            seen[-1] += X[:, 0, 0, 0, 0].astype(int).tolist()
    return seen


if __name__ == "__main__":
    for number in range(24):
        np.save(FOLDER / f"id-{number}.npy", np.full((8, 8, 8, 1), number))
    told = {}
    for name, seed in {"again": 7, "other seed": 8}.items():
        with loader_client.wrap(make(), workers=0, seed=seed) as stream:
            told[name] = epochs(stream)
    model = keras.Sequential([keras.Input((8, 8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", "categorical_crossentropy")
    watch = Watch()
    with loader_client.wrap(make(), workers=1, seed=7) as stream:
        told["first"] = epochs(stream)
        model.fit(stream.keras(), epochs=3, verbose=0, callbacks=[watch])
    print(json.dumps({**told, "trained": watch.steps}))
