"""One small network, trained twice from the same start; a clock in the one place where Keras asks for a batch.

Both loaders go the same way into `fit`: Python iterator -> `tf.data.Dataset.from_generator` -> train step, with
nothing prefetched behind the iterator (both prefetch before it). So the time spent in the iterator's `next` is the
time that the trainer stands still for want of data, for either loader, and needs nobody's own statistics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import loader_client
from loader_service.cli.demo import keras_feed
from loader_service.cli.demo.digits import BATCH, SEED, SIZE, Pictures, train_dataset, validation_dataset


@dataclass
class Training:
    """What one training was like, epoch by epoch; seconds are of training alone, without validation."""

    loader: str
    pictures: int  # of an epoch
    accuracies: list[float] = field(default_factory=list)  # on the validation pictures, 0 to 1
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # of these seconds, for data
    whole_seconds: float = 0.0  # of the whole `fit`: compiling and validation, too

    @property
    def speeds(self) -> list[float]:
        """Images per second, of each epoch."""
        return [self.pictures / seconds for seconds in self.seconds]

    @property
    def waiting_shares(self) -> list[float]:
        """Share of the time that the trainer waited for data, of each epoch."""
        return [waited / seconds for waited, seconds in zip(self.waited, self.seconds, strict=True)]

    def steady(self, values: list[float]) -> float:
        """Return the median over all epochs but the first, in which TensorFlow compiles the model."""
        return median(values[1:] or values)


def prepare_keras_workers() -> None:
    """Do what Keras' loader needs to have done before TensorFlow runs anything."""
    keras_feed.prepare()


def train_both(
    pictures: Pictures, address: str, epochs: int, workers: int, console: Console
) -> tuple[Training, Training]:
    """Train with batches of the daemon at `address`, then with Keras' own loader; show one bar over both."""
    steps = -(-pictures.train_count // BATCH)
    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=2 * epochs * steps)
        with loader_client.connect(address) as loader:
            ours = _train(
                Training("loader-service", pictures.train_count),
                loader.stream(train_dataset(pictures)).keras(),
                loader.stream(validation_dataset(pictures)).keras(),
                epochs,
                (progress, bar),
            )
        theirs = _train(
            Training("Keras PyDataset", pictures.train_count),
            keras_feed.DigitsFolder(pictures.train, train=True, workers=workers),
            keras_feed.DigitsFolder(pictures.validation, train=False, workers=workers),
            epochs,
            (progress, bar),
        )
    return ours, theirs


def build_model(steps: int) -> Any:
    """Return the network, always with the same weights; it learns less and less from each of `steps` batches.

    Without that the last epochs differ by a percent or two among themselves, and so would the two trainings.
    """
    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    rate = keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=steps)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _train(training: Training, feed: Any, validation: Any, epochs: int, bar: tuple[Progress, TaskID]) -> Training:
    clocked = Clocked(feed)
    model = build_model(epochs * (clocked.num_batches or 1))
    began = time.perf_counter()
    model.fit(
        clocked,
        validation_data=Clocked(validation),
        epochs=epochs,
        verbose=0,
        callbacks=[_Watch(training, clocked, epochs, *bar)],
    )
    training.whole_seconds = time.perf_counter() - began
    return training


class Clocked(DataAdapter):  # type: ignore[misc]
    """Whatever `fit` takes, with a clock around each batch that Keras asks it for."""

    def __init__(self, feed: Any) -> None:
        self._adapter = get_data_adapter(feed)
        self.waited = 0.0  # seconds

    def get_tf_dataset(self) -> tf.data.Dataset:
        """Return the way into `fit`: the one that Keras builds for a PyDataset with workers."""
        signature = (tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8), tf.TensorSpec((None,), tf.int64))
        dataset = tf.data.Dataset.from_generator(self._batches, output_signature=signature)
        options = tf.data.Options()
        options.autotune.enabled = False  # or tf.data would prefetch, and hide what waits
        options.threading.private_threadpool_size = 1
        return dataset.with_options(options)

    def _batches(self) -> Iterator[Any]:
        batches = self._adapter.get_numpy_iterator()
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch
            del batch  # its memory may be filled again while we wait for the next one

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch."""
        count: int | None = self._adapter.num_batches
        return count

    @property
    def batch_size(self) -> int:
        """Rows of a whole batch."""
        return BATCH

    def on_epoch_begin(self) -> None:
        """Pass it on."""
        self._adapter.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Pass it on."""
        self._adapter.on_epoch_end()


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes times and accuracies, and moves the bar."""

    def __init__(self, training: Training, feed: Clocked, epochs: int, progress: Progress, bar: TaskID) -> None:
        super().__init__()
        self._training, self._feed, self._epochs = training, feed, epochs
        self._progress, self._bar = progress, bar

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        right = f", {self._training.accuracies[-1]:.1%} right" if self._training.accuracies else ""
        text = f"{self._training.loader}: epoch {epoch + 1} of {self._epochs}{right}"
        self._progress.update(self._bar, description=text)
        self._began, self._waited = time.perf_counter(), self._feed.waited

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._progress.advance(self._bar)

    def on_test_begin(self, logs: Any = None) -> None:
        self._training.seconds.append(time.perf_counter() - self._began)
        self._training.waited.append(self._feed.waited - self._waited)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._training.accuracies.append(float(logs["val_accuracy"]))
