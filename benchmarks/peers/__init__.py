"""The peers, one a file: each in the idiom that its own documentation calls the best, with two workers.

A file says in its first lines why its idiom is the best one. `epochs(work)` yields epochs of (x, y); `fit_data(work)`
is open while `fit` runs, and gives what `fit` takes and the steps of an epoch, where that must be told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from benchmarks.arms import Arm, Case, Epochs, reading
from benchmarks.examiner import Examiner
from benchmarks.peers import (
    bare,
    dali,
    ffcv_loader,
    grain_loader,
    keras_dataset,
    ours,
    ray_data,
    spdl_loader,
    tensorpack_loader,
    tf_data,
    tf_service,
    torch_loader,
)
from benchmarks.work import Work

OURS = "loader-service, 2 workers"


class Loader(NamedTuple):
    """A peer, or one of its ways; `needs` names a module that may be missing, `does` tells who can do which work."""

    needs: str | None
    epochs: Callable[[Work], Epochs]
    fit_data: Callable[[Work], AbstractContextManager[tuple[Any, int | None]]]
    does: Callable[[Work], bool]
    short: bool


def loader(needs: str | None, peer: Any, short: bool = False, **way: bool) -> Loader:
    does = getattr(peer, "does", lambda work: True)
    return Loader(needs, partial(peer.epochs, **way), partial(peer.fit_data, **way), does, short)


LOADERS = {
    OURS: loader(None, ours, short=True),
    "Keras PyDataset, 2 processes": loader("keras", keras_dataset, short=True, processes=True),
    "Keras PyDataset, 2 threads": loader("keras", keras_dataset, processes=False),
    "tf.data, one endless iterator": loader("tensorflow", tf_data, short=True, endless=True),
    "tf.data, an iterator per epoch": loader("tensorflow", tf_data, endless=False),
    "tf.data service, 2 threads": loader("tensorflow", tf_service),
    "PyTorch DataLoader, 2 workers": loader("torch", torch_loader, short=True),
    "Grain, 2 threads": loader("grain", grain_loader, processes=False),
    "Grain, 2 processes": loader("grain", grain_loader, processes=True),
    "NVIDIA DALI on the CPU, 2 threads": loader("nvidia.dali", dali, short=True),
    "SPDL, 2 threads": loader("spdl", spdl_loader, process=False, short=True),
    "SPDL, 2 threads in a process": loader("spdl", spdl_loader, process=True),
    "tensorpack, 2 processes": loader("tensorpack", tensorpack_loader),
    "FFCV, 2 threads, a file of its own": loader("ffcv", ffcv_loader),
    "Ray Data, 2 workers": loader("ray", ray_data),
}


def loaders_of(work: Work) -> dict[str, Loader]:
    """Return who can do this work."""
    return {name: loader for name, loader in LOADERS.items() if loader.does(work)}


def case_of(name: str, work: Work, *, prepare: Callable[[], object] = lambda: None, short: bool = True) -> Case:
    """Return the case of doing this work in every way."""
    return Case(name, work.nbytes, work.rows, arms_of(work), prepare=prepare, short=short)


def arms_of(work: Work) -> list[Arm]:
    """Return every way there is to do this work: ours first, then the peers, then without a loader."""
    arms = [
        Arm(name, reading(partial(loader.epochs, work), Examiner(work)), loader.needs, loader.short)
        for name, loader in loaders_of(work).items()
    ]
    arms.append(Arm("one process, in line", reading(partial(bare.in_line, work), Examiner(work))))
    arms.append(Arm("floor: 2 bare processes, nobody reads", bare.floor(work)))
    return arms
