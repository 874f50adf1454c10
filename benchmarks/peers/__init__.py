"""The peers, one a file: each in the idiom that its own documentation calls the best, with two workers.

A file says in its first lines why its idiom is the best one. `epochs(work)` yields epochs of (x, y); `fit_data(work)`
is open while `fit` runs, and gives what `fit` takes and the steps of an epoch, where that must be told.
"""

from __future__ import annotations

from functools import partial

from benchmarks.arms import Arm, reading
from benchmarks.examiner import Examiner
from benchmarks.peers import bare, dali, grain_loader, keras_dataset, ours, tf_data, torch_loader
from benchmarks.work import Work

OURS = "loader-service, 2 workers"
LOADERS = {  # name: the module that it needs, its epochs, and what it gives to `fit`
    OURS: (None, ours.epochs, ours.fit_data),
    "Keras PyDataset, 2 processes": (
        "keras",
        partial(keras_dataset.epochs, processes=True),
        partial(keras_dataset.fit_data, processes=True),
    ),
    "Keras PyDataset, 2 threads": (
        "keras",
        partial(keras_dataset.epochs, processes=False),
        partial(keras_dataset.fit_data, processes=False),
    ),
    "tf.data, one endless iterator": (
        "tensorflow",
        partial(tf_data.epochs, endless=True),
        partial(tf_data.fit_data, endless=True),
    ),
    "tf.data, an iterator per epoch": (
        "tensorflow",
        partial(tf_data.epochs, endless=False),
        partial(tf_data.fit_data, endless=False),
    ),
    "PyTorch DataLoader, 2 workers": ("torch", torch_loader.epochs, torch_loader.fit_data),
    "Grain, 2 threads": (
        "grain",
        partial(grain_loader.epochs, processes=False),
        partial(grain_loader.fit_data, processes=False),
    ),
    "Grain, 2 processes": (
        "grain",
        partial(grain_loader.epochs, processes=True),
        partial(grain_loader.fit_data, processes=True),
    ),
    "NVIDIA DALI on the CPU, 2 threads": ("nvidia", dali.epochs, dali.fit_data),
}


def arms_of(work: Work) -> list[Arm]:
    """Return every way there is to do this work: ours first, then the peers, then without a loader."""
    arms = [
        Arm(name, reading(partial(epochs, work), Examiner(work)), needs) for name, (needs, epochs, _) in LOADERS.items()
    ]
    arms.append(Arm("one process, in line", reading(partial(bare.in_line, work), Examiner(work))))
    arms.append(Arm("floor: 2 bare processes, nobody reads", bare.floor(work)))
    return arms
