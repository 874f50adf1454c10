"""Keras' own `PyDataset`: what its documentation has for files on disk and augmentation in Python.

Its best: a whole batch is made in `__getitem__`, as the documentation shows it, two workers, Keras' own queue of ten.
Processes are forked, which is what Keras does on Linux before Python 3.14, and started anew for every epoch, by Keras.
Read through the adapter that `fit` itself draws from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.arms import Epochs
from benchmarks.work import Work


def dataset(work: Work, *, processes: bool) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(workers=2, use_multiprocessing=processes, max_queue_size=work.prefetch)
            self.epoch = 0
            self.batches = work.batches_of_ids(0)

        def __len__(self) -> int:
            return len(self.batches)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return work.batch(self.batches[index], np.random.default_rng((7, self.epoch, index)))

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self.batches = work.batches_of_ids(self.epoch)

    return Batches()


def epochs(work: Work, *, processes: bool) -> Epochs:
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    adapter = PyDatasetAdapter(dataset(work, processes=processes), shuffle=work.shuffled)
    while True:
        adapter.on_epoch_begin()
        yield adapter.get_numpy_iterator()
        adapter.on_epoch_end()


@contextlib.contextmanager
def fit_data(work: Work, *, processes: bool) -> Iterator[tuple[Any, None]]:
    yield dataset(work, processes=processes), None
