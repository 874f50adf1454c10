"""How fast do shuffled volumes come from single files: the case of the best known Keras generator tutorial?

4,096 `.npy` files of 32 x 32 x 32 float32, batches of 64, shuffled, labels one-hot. The work is opening and reading:
the numbers are used as they lie in the file. The tutorial's own float64 code is an arm of its own.

Ours reads a file once, and keeps it mapped: the first epoch, which is warm-up, takes longer than others. The mapped
files count as memory of its workers, though they are the page cache's, as those of a pack do.

We lose to one process that maps one packed file and gathers rows in line: who can pack need not pay for workers.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import data
from benchmarks.arms import Arm, Case, reading
from benchmarks.examiner import Examiner
from benchmarks.harness import main
from benchmarks.peers import arms_of, bare, keras_dataset, ours
from benchmarks.work import Ids, Work

HEADER = 128  # bytes before the numbers of each file
SHAPE = data.VOLUME_SHAPE
PACK = data.FOLDER / "volumes.npy"
LABELS = np.arange(data.VOLUMES) % data.CLASSES
HOT = np.eye(data.CLASSES, dtype=np.float32)
PATHS = [str(data.volume(number)) for number in range(data.VOLUMES)]


class Volumes(Work):
    samples = data.VOLUMES
    rows = 64
    x = (SHAPE, np.float32)
    y = ((data.CLASSES,), np.float32)

    def dataset(self) -> Any:
        from loader_service import Dataset

        ids = [f"id-{number}" for number in range(data.VOLUMES)]
        source = Dataset.from_npy_files(data.FOLDER / "volumes", ids, LABELS.tolist())
        return source.one_hot("label", data.CLASSES).shuffle(seed=7).batch(self.rows)

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        return np.load(PATHS[i]), HOT[LABELS[i]]

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        header = bytearray(HEADER)
        for row, i in zip(x, ids.tolist(), strict=True):
            fd = os.open(PATHS[i], os.O_RDONLY)
            os.preadv(fd, [header, row], 0)  # type: ignore[list-item]
            os.close(fd)
        np.take(HOT, LABELS[ids], axis=0, out=y, mode="clip")

    def tf_columns(self) -> tuple[Any, ...]:
        return PATHS, LABELS

    def tf_sample(self, path: Any, label: Any) -> tuple[Any, Any]:
        """The fastest of five ways to write it: a body cut out of the file's string, then decoded."""
        import tensorflow as tf

        body = tf.strings.substr(tf.io.read_file(path), HEADER, 4 * int(np.prod(SHAPE)))
        return tf.reshape(tf.io.decode_raw(body, tf.float32), SHAPE), tf.one_hot(label, data.CLASSES)

    def dali(self) -> tuple[Any, Any]:
        from nvidia.dali import fn, types

        # Its numpy reader knows no labels. Read whole, not mapped: three times faster with small files.
        how = {"shuffle_after_epoch": True, "dont_use_mmap": True}
        encoded, label = fn.readers.file(files=PATHS, labels=LABELS.tolist(), **how)
        return fn.decoders.numpy(encoded), fn.one_hot(label, num_classes=data.CLASSES, dtype=types.FLOAT)

    def ffcv(self) -> tuple[Any, ...]:
        from ffcv.fields import NDArrayField
        from ffcv.fields.decoders import NDArrayDecoder

        fields = {
            name: NDArrayField(np.dtype(dtype), shape) for name, (shape, dtype) in {"x": self.x, "y": self.y}.items()
        }
        pipelines = {"x": [NDArrayDecoder()], "y": [NDArrayDecoder()]}
        return data.FOLDER / "volumes.beton", fields, lambda i: (packed()[i], HOT[LABELS[i]]), pipelines

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return x[:, 0, 0, 0, 0].astype(np.int64)

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert np.array_equal(y, HOT[LABELS[ids]]), "labels are not those of the volumes"
        assert np.array_equal(x[-1], packed()[ids[-1]]), "the numbers are not those of the file"


class AsInTheTutorial(Volumes):
    x = (SHAPE, np.float64)


class Packed(Volumes):
    """All volumes in one file, mapped."""

    def dataset(self) -> Any:
        from loader_service import Dataset

        source = Dataset.from_arrays(x=PACK, label=LABELS)
        return source.one_hot("label", data.CLASSES).shuffle(seed=7).batch(self.rows)

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        np.take(packed(), ids, axis=0, out=x, mode="clip")
        np.take(HOT, LABELS[ids], axis=0, out=y, mode="clip")


@cache
def packed() -> np.ndarray:
    return np.asarray(np.load(PACK, mmap_mode="r"))


def arm(name: str, epochs: Any, work: Work, needs: str | None = None) -> Arm:
    return Arm(name, reading(partial(epochs, work), Examiner(work)), needs, short=False)


WORK = Volumes()
ARMS = [
    *arms_of(WORK),
    arm(
        "Keras PyDataset, 2 processes, float64 as in the tutorial",
        partial(keras_dataset.epochs, processes=True),
        AsInTheTutorial(),
        "keras",
    ),
    arm("loader-service, 2 workers, from one packed file", ours.epochs, Packed()),
    arm("one process, one mapped packed file, in line", bare.in_line, Packed()),
]
CASES = [Case("volumes", WORK.nbytes, WORK.rows, ARMS, prepare=data.make_volumes)]

if __name__ == "__main__":
    main("benchmarks.volumes", __doc__ or "", CASES)
