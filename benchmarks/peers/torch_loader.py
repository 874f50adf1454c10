"""PyTorch's `DataLoader` with two worker processes.

Its best: `persistent_workers`, so that processes live on from epoch to epoch; for single samples its own collate, which
stacks them straight into shared memory; for gathers a sampler of batches and `batch_size=None`, which hands a dataset
the ids of a whole batch. Photos are decoded and resized by the same libjpeg-turbo and OpenCV as ours: torchvision's
transforms are no faster, and want a build of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.arms import Epochs
from benchmarks.work import Work


def loader(work: Work) -> Any:
    import torch
    from torch.utils.data import DataLoader, Dataset, Sampler

    torch.set_num_threads(1)
    rng = np.random.default_rng()

    def seed(worker: int) -> None:
        nonlocal rng
        rng = np.random.default_rng(torch.initial_seed())

    class Rows(Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return work.samples

        def __getitem__(self, i: Any) -> tuple[Any, Any]:
            if work.gathers:
                return tuple(torch.from_numpy(array) for array in work.batch(np.asarray(i), rng))
            x, y = work.sample(i, rng)
            return torch.from_numpy(x), torch.from_numpy(y) if np.ndim(y) else int(y)

    class Batches(Sampler):  # type: ignore[misc]
        epoch = -1

        def __iter__(self) -> Iterator[Any]:
            self.epoch += 1
            return iter(work.batches_of_ids(self.epoch))

        def __len__(self) -> int:
            return len(work.batches_of_ids(0))

    rows = Rows()
    how: dict[str, Any] = {"batch_size": work.rows, "shuffle": work.shuffled}
    if work.gathers:
        how = {"batch_size": None, "sampler": Batches()}
    ahead = {"num_workers": 2, "prefetch_factor": work.prefetch // 2, "persistent_workers": True}
    return DataLoader(rows, **how, **ahead, worker_init_fn=seed)


def epochs(work: Work) -> Epochs:
    batches = loader(work)
    while True:
        yield ((x.numpy(), y.numpy()) for x, y in batches)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, None]]:
    batches = loader(work)
    iter(batches)  # its workers are forked here, before TensorFlow is loaded: later on, such forks hang now and then
    yield batches, None
