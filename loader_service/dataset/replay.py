"""A user's object with epochs, as a pure function: (epoch, item) -> what `object[item]` returns in that epoch.

    pristine --end, begin--> epoch 0 --end, begin--> epoch 1 --end, begin--> epoch 2 ...

`end` and `begin` are its own `on_epoch_end` and `on_epoch_begin`, where it has them. Keras calls `on_epoch_end` before
the first epoch, too, when `fit` begins: so is it here. All random generators that are found are seeded before each
call, by the epoch and the item; so an epoch can be made at any time, in any process, from a pristine object. Two epochs
are wanted at a time, since the next one is prefetched: so two objects are kept, and the older one is led onwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from loader_service.dataset.draws import stream_key
from loader_service.dataset.transforms.map import seed_globals
from loader_service.protocol.errors import DatasetError

KEPT = 2  # objects, each in an epoch of its own
DEPTH = 3  # of attributes of attributes that are searched for generators
MOST_SEARCHED = 100  # entries of a list or dict that may hold generators: longer ones hold data

Generator = random.Random | np.random.Generator | np.random.RandomState
CODE = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType, property, classmethod, staticmethod)


class Replayed:
    """A user's object in any of its epochs."""

    def __init__(self, make: Callable[[], Any], seed: int) -> None:
        """Keep `make`, which returns a pristine object each time that it is called."""
        self._make, self._seed = make, seed
        self._kept: dict[int, Any] = {}  # epoch -> the object in it

    def item(self, epoch: int, number: int) -> Any:
        """Return `object[number]`, in an epoch."""
        found = self.at(epoch)
        seed_all(found, stream_key("item", self._seed, epoch, number))
        return found[number]

    def at(self, epoch: int) -> Any:
        """Return the object as it is in an epoch."""
        if epoch not in self._kept:
            before, found = self._take(epoch)
            while before < epoch:
                before += 1
                self._lead_into(found, before)
            self._kept[epoch] = found
        return self._kept[epoch]

    def _take(self, epoch: int) -> tuple[int, Any]:
        """Return an object that can be led to `epoch`, and the epoch that it is in."""
        if len(self._kept) >= KEPT:
            oldest = min(self._kept)
            found = self._kept.pop(oldest)
            if oldest < epoch:
                return oldest, found
        seed_all(None, stream_key("made", self._seed))
        return -1, self._make()

    def _lead_into(self, found: Any, epoch: int) -> None:
        for method in ("on_epoch_end", "on_epoch_begin"):
            if hasattr(found, method):
                seed_all(found, stream_key(method, self._seed, epoch))
                getattr(found, method)()


def length_of(found: Any, name: str) -> int:
    """Return how many items an object has.

    Raises:
        DatasetError: If it does not say, or has none.
    """
    if not hasattr(found, "__getitem__"):
        raise DatasetError(f"{name} is {type(found).__name__}, which has no __getitem__: expected a Sequence")
    if hasattr(found, "__len__"):
        length = len(found)
    elif hasattr(found, "num_batches"):  # what Keras 3 asks a PyDataset for
        length = found.num_batches
    else:
        raise DatasetError(f"{name} is {type(found).__name__}, which has no __len__: how many batches has an epoch?")
    if length is None:
        raise DatasetError(f"{name} has no end: its num_batches is None. Give it a __len__: the batches of an epoch")
    if length < 1:
        raise DatasetError(f"{name} is empty: its length is {length}, expected the batches of an epoch, at least 1")
    return int(length)


def seed_all(found: Any, key: int) -> None:
    """Seed Python's and NumPy's global generators, and each generator in the attributes of an object."""
    seed_globals(key, 0)
    for path, generator in generators_in(found):
        own = stream_key(path, key)
        if isinstance(generator, np.random.Generator):
            kind: Any = type(generator.bit_generator)
            generator.bit_generator.state = kind(own).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed([own & 0xFFFFFFFF, own >> 32])
        else:
            generator.seed(own)


def generators_in(found: Any) -> Iterator[tuple[str, Generator]]:
    """Yield the random generators in an object's attributes, each once, with its path.

    >>> class Noise: pass
    >>> noise = Noise()
    >>> noise.rngs = {"x": random.Random()}
    >>> [path for path, _ in generators_in(noise)]
    ['.rngs.x']
    """
    seen: set[int] = set()
    layer = [("", found)]
    for _ in range(DEPTH + 1):
        inner: list[tuple[str, Any]] = []
        for path, value in layer:
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Generator):
                yield path, value
            else:
                inner += [(f"{path}.{name}", part) for name, part in _parts(value) if _may_hold(part)]
        layer = inner


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, list | tuple):
        return list(enumerate(value)) if len(value) <= MOST_SEARCHED else []
    if isinstance(value, dict):
        return list(value.items()) if len(value) <= MOST_SEARCHED else []
    own = [vars(kind) for kind in reversed(type(value).__mro__[:-1])]  # `rng = ...` in the class's body, too
    return [item for attributes in [*own, getattr(value, "__dict__", {})] for item in list(attributes.items())]


def _may_hold(value: Any) -> bool:
    """Whether a value is, or may have in it, a generator: neither numbers nor text, nor functions, classes, modules."""
    if isinstance(value, Generator | list | tuple | dict):
        return True
    return hasattr(value, "__dict__") and not isinstance(value, (np.ndarray, *CODE))
