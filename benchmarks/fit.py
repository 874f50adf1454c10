"""What arrives in `model.fit`, with a network so small that it hardly counts?

The volumes, the photos for training and the table, fed to `fit` in each one's own best way. The network looks at every
eighth number of a volume, every seventh pixel of a photo, and at a whole row of the table. The ceilings are Keras
with one batch that is ready, again and again: no loader can be faster in `fit`; and our batches without Keras, in a
plain loop: nor can ours.

The gap between epochs holds what Keras itself does there: compare it with the ceilings'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks import photos, table, volumes
from benchmarks.arms import Arm, Case, Drive
from benchmarks.harness import main
from benchmarks.meter import Meter
from benchmarks.peers import loaders_of
from benchmarks.work import Work

FitData = Callable[[Work], contextlib.AbstractContextManager[tuple[Any, int | None]]]


def fitting(work: Work, fit_data: FitData, network: Callable[[], Any]) -> Drive:
    """Drive `fit`, and count the steps that it makes."""

    def drive(meter: Meter) -> None:
        with fit_data(work) as (data, steps):
            network().fit(data, steps_per_epoch=steps, epochs=1_000_000, verbose=0, callbacks=[steps_of(work, meter)])

    return drive


def steps_of(work: Work, meter: Meter) -> Any:
    """Return a callback that tells a meter of the steps that `fit` makes, and ends it."""
    import keras

    class Steps(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            meter.saw(min(work.rows, work.samples - batch * work.rows))
            self.model.stop_training = meter.over
            self.steps = batch + 1

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            wanted = work.samples // work.rows
            assert meter.over or self.steps in (wanted, wanted + 1), f"an epoch had {self.steps} steps"
            meter.epoch_ended()

    return Steps()


def network(stride: int, work: Work, outputs: int, loss: str) -> Any:
    """Return a linear network that looks at a part of its input."""
    import keras

    shape, dtype = work.x
    inputs = keras.Input(shape, dtype=np.dtype(dtype).name)
    part = inputs[(slice(None), *(slice(None, None, stride) for _ in shape[:-1]))] if len(shape) > 1 else inputs
    part = keras.layers.Flatten()(keras.ops.cast(part, "float32") / 255)
    model = keras.Model(inputs, keras.layers.Dense(outputs, "softmax" if outputs > 1 else None)(part))
    model.compile("sgd", loss, jit_compile=False)
    return model


# -- ceilings ------------------------------------------------------------------------------------------------------


def ready_batch(work: Work) -> tuple[np.ndarray, np.ndarray]:
    return work.batch(work.in_order()[: work.rows], np.random.default_rng(7))


@contextlib.contextmanager
def ready_generator(work: Work) -> Iterator[tuple[Any, int]]:
    batch = ready_batch(work)
    yield (batch for _ in count()), work.samples // work.rows


@contextlib.contextmanager
def ready_keras(work: Work) -> Iterator[tuple[Any, None]]:
    import keras

    class Ready(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batch = ready_batch(work)

        def __len__(self) -> int:
            return work.samples // work.rows

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return self.batch

    yield Ready(), None


@contextlib.contextmanager
def ready_tf(work: Work) -> Iterator[tuple[Any, int]]:
    import tensorflow as tf

    yield tf.data.Dataset.from_tensors(ready_batch(work)).repeat(), work.samples // work.rows


CEILINGS: dict[str, FitData] = {
    "ceiling: a generator of one ready batch": ready_generator,
    "ceiling: a PyDataset of one ready batch": ready_keras,
    "ceiling: tf.data of one ready batch": ready_tf,
}
WITHOUT_KERAS = "ceiling: loader-service without Keras"


def case(name: str, of: Case, work: Work, network: Callable[[], Any]) -> Case:
    arms = [
        Arm(arm, fitting(work, loader.fit_data, network), loader.needs, loader.short)
        for arm, loader in loaders_of(work).items()
    ]
    arms += [
        Arm(arm, fitting(work, fit_data, network), short=fit_data is ready_tf) for arm, fit_data in CEILINGS.items()
    ]
    arms.append(replace(of.arms[0], name=WITHOUT_KERAS))
    return Case(name, work.nbytes, work.rows, arms, prepare=of.prepare, short=work is volumes.WORK)


CASES = [
    case(
        "fit, volumes",
        volumes.CASES[0],
        volumes.WORK,
        partial(network, 8, volumes.WORK, 10, "categorical_crossentropy"),
    ),
    case(
        "fit, photos",
        photos.CASES[0],
        photos.TRAIN,
        partial(network, 7, photos.TRAIN, 10, "sparse_categorical_crossentropy"),
    ),
    case("fit, table", table.CASES[0], table.WORK, partial(network, 1, table.WORK, 1, "mse")),
]

if __name__ == "__main__":
    main("benchmarks.fit", __doc__ or "", CASES)
