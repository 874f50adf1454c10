"""The same pictures through Keras' own loader: a `PyDataset` with worker processes.

This is the fair counterpart, because it is what Keras offers for files on disk with augmentation in Python, and it is
given the best that we know: as many worker processes, the same OpenCV calls on one thread each, batches made whole
in the worker, and workers forked from a clean server that has loaded Keras already (see `prepare`).
"""

from __future__ import annotations

import multiprocessing.forkserver
import signal
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from loader_service.cli.demo.digits import BATCH, ENLARGED, SEED, SIZE


def prepare() -> None:
    """Choose how Keras starts its workers, and have the server ready that they are forked from.

    Plain `fork`, which Keras uses on Linux before Python 3.14, copies TensorFlow's threads' locks but not its threads:
    a worker may then hang for ever, and Python 3.12 warns of it. `spawn` is safe, and loads TensorFlow anew for every
    worker of every epoch, some seconds each: Keras starts its workers again for each epoch. A fork server that
    has imported everything, and run nothing, is safe and fast.
    """
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["loader_service.cli", __name__])
    multiprocessing.forkserver.ensure_running()


class DigitsFolder(keras.utils.PyDataset):  # type: ignore[misc]
    """Pictures in class folders, enlarged and cropped; shuffled anew for each epoch where `train` is true."""

    def __init__(self, folder: Path, *, train: bool, workers: int) -> None:
        super().__init__(workers=workers, use_multiprocessing=True)
        self._files = sorted((str(path), int(path.parent.name)) for path in folder.glob("*/*.png"))
        self._train = train
        self._epoch = 0
        self._order = np.arange(len(self._files))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in a worker process."""
        self.__dict__.update(state)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which ends its workers
        cv2.setNumThreads(1)

    def __len__(self) -> int:
        return -(-len(self._files) // BATCH)

    def on_epoch_end(self) -> None:
        """Shuffle; Keras hands the new order to the next epoch's workers."""
        if self._train:
            self._epoch += 1
            self._order = np.random.default_rng([SEED, self._epoch]).permutation(len(self._files))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * BATCH : (index + 1) * BATCH]
        rng = np.random.default_rng([SEED, self._epoch, index])
        images = np.empty((len(chosen), SIZE, SIZE, 1), np.uint8)
        labels = np.empty(len(chosen), np.int64)
        spare = ENLARGED - SIZE
        for row, number in enumerate(chosen):
            path, labels[row] = self._files[number]
            picture = cv2.resize(cv2.imread(path, cv2.IMREAD_GRAYSCALE), (ENLARGED, ENLARGED))
            top, left = rng.integers(0, spare + 1, 2) if self._train else (spare // 2, spare // 2)
            images[row, :, :, 0] = picture[top : top + SIZE, left : left + SIZE]
        return images, labels
