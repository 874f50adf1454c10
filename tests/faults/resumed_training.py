"""A training script that goes on from its backups, and dies where it is told to. Run by resume.py.

    python resumed_training.py FOLDER ADDRESS [PLACE COUNT]

Each batch that the model has stepped on is a line of FOLDER/trained: what the optimizer counts after it, and the ids of
its samples. What `fit` returns with is FOLDER/weights.npy. PLACES are where it can die, at the COUNT-th time that it is
there: by SIGKILL, or, in the middle of a file, by the signal of a file that grows too large.
"""

import os
import resource
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import loader_client
from loader_service import Dataset

SAMPLES, BATCH, EPOCHS, EVERY = 22, 4, 3, 2  # six batches an epoch
PLACES = {  # events of Python's own, and what their first argument ends with
    "backup is written": ("open", ".npz.partial"),
    "backup is renamed": ("os.rename", ".npz.partial"),
    "old backup is removed": ("os.remove", ".npz"),
    "batch has begun": None,
    "batch has ended": None,
    "epoch has ended": None,
    "validation has begun": None,
    "training has ended": None,
}
PART_OF_A_BACKUP = 3000  # bytes


class Death(keras.callbacks.Callback):
    """Dies at one place."""

    def __init__(self, place, count):
        super().__init__()
        self.place, self.left = place, count
        sys.addaudithook(self.on_event)

    def on_event(self, event, arguments):
        name, ending = PLACES[self.place] or (None, None)
        if event == name and str(arguments[0]).endswith(ending):
            self.reach(self.place)

    def reach(self, place):
        self.left -= place == self.place
        if self.left > 0 or place != self.place:
            return
        if place == "backup is written":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
            resource.setrlimit(resource.RLIMIT_FSIZE, (PART_OF_A_BACKUP,) * 2)
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_begin(self, batch, logs=None):
        self.reach("batch has begun")

    def on_train_batch_end(self, batch, logs=None):
        self.reach("batch has ended")

    def on_test_batch_begin(self, batch, logs=None):
        self.reach("validation has begun")

    def on_epoch_end(self, epoch, logs=None):
        self.reach("epoch has ended")

    def on_train_end(self, logs=None):
        self.reach("training has ended")


class Noting(keras.Sequential):
    """Notes the ids of the samples that it steps on, which are its first input."""

    def train_step(self, data):
        self.ids = data[0][:, 0].numpy().astype(int).tolist()
        return super().train_step(data)


class Log(keras.callbacks.Callback):
    """Writes what the model has stepped on to where it outlives the process."""

    def __init__(self, file):
        super().__init__()
        self.fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def on_train_batch_end(self, batch, logs=None):
        line = f"{int(self.model.optimizer.iterations)} {' '.join(map(str, self.model.ids))}\n"
        os.write(self.fd, line.encode())


def new_model():
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = Noting([layers.Rescaling(1 / SAMPLES), layers.Dense(64), layers.Dropout(0.5, seed=2), layers.Dense(1)])
    model.compile("adam", "mse", run_eagerly=True)
    return model


def main(folder, address, place=None, count="1"):
    ids = np.arange(SAMPLES, dtype=np.float32)
    samples = Dataset.from_arrays(x=np.stack([ids, ids % 5], 1), y=ids % 3)
    with loader_client.connect(address) as loader:
        stream, held_out = loader.stream(samples.shuffle(seed=5).batch(BATCH)), loader.stream(samples.batch(8))
        model = new_model()
        deaths = [Death(place, int(count))] if place else []
        model.fit(
            stream.keras(),
            validation_data=held_out.keras(),
            epochs=EPOCHS,
            callbacks=[Log(folder / "trained"), *deaths, stream.backup_callback(folder / "backups", every=EVERY)],
            verbose=0,
        )
    np.save(folder / "weights.npy", np.concatenate([weight.numpy().ravel() for weight in model.weights]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
