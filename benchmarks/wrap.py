"""What does `wrap` make of the best known Keras generator tutorial, unchanged, against Keras' own processes?

4,096 `.npy` files of 32 x 32 x 32 float32, batches of 64, shuffled, labels one-hot. The class is the tutorial's: it
fills float64 batches sample by sample, and shuffles in `on_epoch_end`. Every arm runs it; only who calls it differs.

In `fit`, the network looks at every eighth number. Opening the stream, in which the workers import TensorFlow since the
class is Keras', is not timed; neither is the start of Keras' first processes, but that of later epochs is.

Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   samples/s, median of 3 (smallest..largest)       read               wrap is      fit                wrap is
         wrap, 2 workers                             7,471 (3,699..7,736)           5,622 (5,267..5,835)
         in line                                     5,052 (4,658..5,110)    1.5 x
         Keras, 2 threads                            3,556 (3,517..3,593)    2.1 x  2,172 (1,898..2,447)     2.6 x
         Keras, 2 processes                          1,327 (1,083..1,331)    5.6 x    651 (509..664)         8.6 x

    python -m benchmarks.wrap --seconds 2 --repeats 3 --longest 4
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.arms import Arm, Case, Epochs, reading
from benchmarks.examiner import Examiner
from benchmarks.fit import fitting, network
from benchmarks.harness import main
from benchmarks.work import Work

SHAPE = data.VOLUME_SHAPE
WORKERS = 2


class Tutorial(Work):
    samples = data.VOLUMES
    rows = 64
    x = (SHAPE, np.float64)
    y = ((data.CLASSES,), np.float64)

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return x[:, 0, 0, 0, 0].astype(np.int64)

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert (np.asarray(y).argmax(-1) == ids % data.CLASSES).all(), "labels are not those of the volumes"
        assert np.array_equal(x[-1], np.load(data.volume(int(ids[-1])))), "the numbers are not those of the file"


def generator(**how: Any) -> Any:
    """Return the tutorial's object, as its main script makes it."""
    from benchmarks.peers.tutorial import DataGenerator

    ids = [f"id-{number}" for number in range(data.VOLUMES)]
    labels = {ID: number % data.CLASSES for number, ID in enumerate(ids)}
    folder = data.FOLDER / "volumes"
    return DataGenerator(ids, labels, str(folder), WORK.rows, SHAPE[:3], 1, data.CLASSES, shuffle=True, **how)


def wrapped() -> Epochs:
    import loader_client

    with loader_client.wrap(generator(), workers=WORKERS, prefetch=WORK.prefetch) as stream:
        while True:
            yield (tuple(batch.values()) for batch in stream)


def by_keras(*, processes: bool) -> Epochs:
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    adapter = PyDatasetAdapter(parallel(processes), shuffle=True)
    adapter.on_epoch_end()
    while True:
        adapter.on_epoch_begin()
        yield adapter.get_numpy_iterator()
        adapter.on_epoch_end()


def parallel(processes: bool) -> Any:
    return generator(workers=WORKERS, use_multiprocessing=processes, max_queue_size=WORK.prefetch)


def in_line() -> Epochs:
    made = generator()
    while True:
        yield (made[number] for number in range(len(made)))
        made.on_epoch_end()


@contextlib.contextmanager
def wrapped_for_fit(work: Work) -> Iterator[tuple[Any, None]]:
    import loader_client

    with loader_client.wrap(generator(), workers=WORKERS, prefetch=work.prefetch) as stream:
        yield stream.keras(), None


@contextlib.contextmanager
def keras_for_fit(work: Work, *, processes: bool) -> Iterator[tuple[Any, None]]:
    yield parallel(processes), None


def arm(name: str, epochs: Any) -> Arm:
    return Arm(name, reading(epochs, Examiner(WORK)), "keras")


def fit_arm(name: str, fit_data: Any) -> Arm:
    return Arm(name, fitting(WORK, fit_data, partial(network, 8, WORK, 10, "categorical_crossentropy")), "keras")


WORK = Tutorial()
OURS = "loader-service: wrap, 2 workers"
PROCESSES, THREADS = "Keras, 2 processes", "Keras, 2 threads"
READING = [
    arm(OURS, wrapped),
    arm(PROCESSES, partial(by_keras, processes=True)),
    arm(THREADS, partial(by_keras, processes=False)),
    arm("in line", in_line),
]
FITTING = [
    fit_arm(OURS, wrapped_for_fit),
    fit_arm(PROCESSES, partial(keras_for_fit, processes=True)),
    fit_arm(THREADS, partial(keras_for_fit, processes=False)),
]
CASES = [
    Case("the tutorial's generator", WORK.nbytes, WORK.rows, READING, prepare=data.make_volumes, short=False),
    Case("the tutorial's generator in fit", WORK.nbytes, WORK.rows, FITTING, prepare=data.make_volumes, short=False),
]

if __name__ == "__main__":
    main("benchmarks.wrap", __doc__ or "", CASES)
