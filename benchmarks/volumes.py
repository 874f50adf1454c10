"""How fast do shuffled volumes come from single files: the case of the best known Keras generator tutorial?

Method   4,096 files of 32 x 32 x 32 float32, page cache warm; batches of 64, shuffled, labels one-hot; epoch after
         epoch. Two workers, or two threads, everywhere; ten batches ahead. Keras draws from its own adapter, as `fit`
         does, and starts its processes anew each epoch; tf.data is one endless iterator. Every reader looks at the
         first and the last number. Each repeat of an arm is a new process: 1 s of warm-up, then 3 s timed; arms take
         turns; median of 3 (min..max). One thread for each library.
Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   samples/s                                        ours is
         ours                 45,829 (42,908..46,274)
         Keras, 2 processes    1,345 (1,178..1,447)       34 x    as in the tutorial, float64
         Keras, 2 processes    2,075 (2,007..2,198)       22 x    float32
         Keras, 2 threads      4,740 (3,997..4,995)      9.7 x
         tf.data              14,990 (14,472..16,392)    3.1 x
         DataLoader            7,706 (7,285..8,180)      5.9 x
         np.load in line       9,736 (9,650..9,786)      4.7 x
         two bare processes   68,647 (65,744..69,450)   0.67 x    that only `preadv` into shared slots
         one mapped pack      66,483 (57,447..66,709)   0.69 x    gathered in line, in one process
We lose  to one process that maps one packed file and gathers rows in line: who can pack need not pay for workers.
Not shown  a cold disk, `fit` itself, augmentation, more than two cores.

    python -m benchmarks.volumes --json volumes.jsonl        (--seconds 3 --repeats 3; writes 1 GiB of data, once)
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Arm, Case, Counter, counted, main

FILES = 4096
SHAPE = (32, 32, 32, 1)
NBYTES = 4 * 32 * 32 * 32
HEADER = 128  # bytes before the numbers of each file
CLASSES = 10
ROWS = 64
PREFETCH = 10  # batches ahead, for all: it is Keras' own default
SLOTS = PREFETCH + 6  # as many as the daemon makes: loader_service/daemon/memory.py
FOLDER = Path(tempfile.gettempdir()) / "loader-service-volumes"
PACK = FOLDER.with_suffix(".npy")  # all of them in one file

IDS = [f"id-{number}" for number in range(FILES)]
LABELS = {name: number % CLASSES for number, name in enumerate(IDS)}


def make_files() -> None:
    """Write the volumes, and the pack of all of them, unless they are there."""
    if PACK.exists():
        return
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    volumes = rng.standard_normal((FILES, *SHAPE), np.float32)
    for name, volume in zip(IDS, volumes, strict=True):
        np.save(FOLDER / f"{name}.npy", volume)
    with open(PACK.with_suffix(".part"), "wb") as file:
        np.save(file, volumes)
    PACK.with_suffix(".part").rename(PACK)


def touch(x: Any, y: Any) -> None:
    """What every reader does with a batch: the first and the last number of both arrays."""
    assert x[0, 0, 0, 0, 0] != x[-1, -1, -1, -1, -1] and y[0].sum() == y[-1].sum() == 1, "samples and one-hot labels"


# -- ours ----------------------------------------------------------------------------------------------------------


def ours(*, packed: bool = False) -> Iterator[int]:
    import loader_client
    from loader_service import Dataset

    if packed:
        source = Dataset.from_arrays(x=PACK, label=np.asarray(list(LABELS.values())))
    else:
        source = Dataset.from_npy_files(FOLDER, ids=IDS, labels=LABELS)
    dataset = source.one_hot("label", CLASSES).shuffle(seed=7).batch(ROWS)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset, prefetch=PREFETCH)
        while True:
            for batch in stream:
                touch(batch["x"], batch["label"])
                yield 1


# -- peers ---------------------------------------------------------------------------------------------------------


def keras_dataset(dtype: str, *, processes: bool) -> Iterator[int]:
    """The tutorial's generator, over Keras' own adapter: what `fit` draws from, epoch after epoch."""
    import keras
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    class DataGenerator(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, list_IDs: list[str], labels: dict[str, int], **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.dim, self.n_channels, self.n_classes = SHAPE[:3], SHAPE[3], CLASSES
            self.batch_size, self.shuffle = ROWS, True
            self.list_IDs, self.labels = list_IDs, labels
            self.on_epoch_end()

        def __len__(self) -> int:
            return len(self.list_IDs) // self.batch_size

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            indexes = self.indexes[index * self.batch_size : (index + 1) * self.batch_size]
            X = np.empty((self.batch_size, *self.dim, self.n_channels), dtype)
            y = np.empty(self.batch_size, dtype=int)
            for i, k in enumerate(indexes):
                ID = self.list_IDs[k]
                X[i,] = np.load(f"{FOLDER}/{ID}.npy")
                y[i] = self.labels[ID]
            return X, keras.utils.to_categorical(y, num_classes=self.n_classes)

        def on_epoch_end(self) -> None:
            self.indexes = np.arange(len(self.list_IDs))
            if self.shuffle:
                np.random.shuffle(self.indexes)

    generator = DataGenerator(IDS, LABELS, workers=2, use_multiprocessing=processes, max_queue_size=PREFETCH)
    adapter = PyDatasetAdapter(generator, shuffle=True)
    while True:
        adapter.on_epoch_begin()
        for x, y in adapter.get_numpy_iterator():
            touch(x, y)
            yield 1
        adapter.on_epoch_end()


def tf_data() -> Iterator[int]:
    """One endless iterator. The fastest of five ways to write it: a body cut out of the file's string, then decoded."""
    import tensorflow as tf

    paths = [f"{FOLDER}/{name}.npy" for name in IDS]

    def read(path: Any, label: Any) -> tuple[Any, Any]:
        body = tf.strings.substr(tf.io.read_file(path), HEADER, NBYTES)
        return tf.reshape(tf.io.decode_raw(body, tf.float32), SHAPE), tf.one_hot(label, CLASSES)

    files = tf.data.Dataset.from_tensor_slices((paths, list(LABELS.values()))).shuffle(FILES).repeat()
    samples = files.map(read, num_parallel_calls=2, deterministic=False)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    batches = samples.batch(ROWS, drop_remainder=True).prefetch(PREFETCH).with_options(options)
    for x, y in batches.as_numpy_iterator():
        touch(x, y)
        yield 1


def torch_loader() -> Iterator[int]:
    """PyTorch's DataLoader with two processes that live on from epoch to epoch."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)
    hot = torch.eye(CLASSES)

    class Volumes(Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return FILES

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            return torch.from_numpy(np.load(f"{FOLDER}/{IDS[i]}.npy")), hot[LABELS[IDS[i]]]

    loader = DataLoader(
        Volumes(),
        batch_size=ROWS,
        shuffle=True,
        num_workers=2,
        prefetch_factor=PREFETCH // 2,
        persistent_workers=True,
    )
    while True:
        for x, y in loader:
            touch(x.numpy(), y.numpy())
            yield 1


# -- the bare machine ----------------------------------------------------------------------------------------------


def batches_of_ids(seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the ids of one batch after the other: epoch after epoch, shuffled."""
    for epoch in count():
        ids = np.random.default_rng((seed, epoch)).permutation(FILES)
        yield from ids.reshape(-1, ROWS)


def one_process() -> Iterator[int]:
    """A plain loop of np.load in this process."""
    hot = np.eye(CLASSES, dtype=np.float32)
    for ids in batches_of_ids(7):
        x = np.empty((ROWS, *SHAPE), np.float32)
        y = np.empty((ROWS, CLASSES), np.float32)
        for row, number in enumerate(ids.tolist()):
            x[row] = np.load(f"{FOLDER}/{IDS[number]}.npy")
            y[row] = hot[LABELS[IDS[number]]]
        touch(x, y)
        yield 1


def read_into_slots() -> Iterator[int]:
    """Two processes read files into shared slots, header and body in one call; nobody reads, nobody is told."""
    arena = mmap.mmap(-1, SLOTS * ROWS * NBYTES)
    memory = memoryview(arena)
    np.frombuffer(arena, np.uint8)[:] = 0  # no page is touched for the first time later on
    paths = [os.fsencode(FOLDER / f"{name}.npy") for name in IDS]

    def fill(worker: int, made: Counter) -> None:
        header = bytearray(HEADER)
        for number, ids in enumerate(batches_of_ids(worker)):
            start = (worker + 2 * number) % SLOTS * ROWS * NBYTES
            for i in ids.tolist():
                fd = os.open(paths[i], os.O_RDONLY)
                os.preadv(fd, [header, memory[start : start + NBYTES]], 0)
                os.close(fd)
                start += NBYTES
            made.value += 1

    return counted(fill, workers=2)


def mapped_pack() -> Iterator[int]:
    """All volumes in one file, mapped; one process gathers rows into the same arrays again and again."""
    volumes = np.load(PACK, mmap_mode="r")
    hot = np.eye(CLASSES, dtype=np.float32)
    labels = np.asarray(list(LABELS.values()))
    x = np.empty((ROWS, *SHAPE), np.float32)
    for ids in batches_of_ids(7):
        np.take(volumes, ids, axis=0, out=x, mode="clip")
        touch(x, hot[labels[ids]])
        yield 1


ARMS = [
    Arm("loader-service, 2 workers", ours),
    Arm("Keras PyDataset, 2 processes, as in the tutorial", partial(keras_dataset, "float64", processes=True)),
    Arm("Keras PyDataset, 2 processes, float32", partial(keras_dataset, "float32", processes=True)),
    Arm("Keras PyDataset, 2 threads, float32", partial(keras_dataset, "float32", processes=False)),
    Arm("tf.data, one endless iterator, 2 threads", tf_data),
    Arm("PyTorch DataLoader, 2 workers", torch_loader, needs="torch"),
    Arm("one process, np.load in line", one_process),
    Arm("floor: 2 processes, preadv into as many shared slots", read_into_slots),
    Arm("loader-service, 2 workers, from one packed file", partial(ours, packed=True)),
    Arm("one process, one mapped packed file, in line", mapped_pack),
]

if __name__ == "__main__":
    make_files()
    case = Case("volumes", nbytes=ROWS * NBYTES, rows=ROWS, arms=ARMS, unit="samples", remarks={"prefetch": PREFETCH})
    main("benchmarks.volumes", __doc__ or "", [case])
