"""`Batch`: read-only arrays over a slot, and the lease that gives the slot back when the last of them is gone.

One `Lease` object owns all arrays of a batch. Every view that NumPy, TensorFlow or JAX makes of them keeps it alive;
its finalizer then returns the slot. A finalizer may run in any thread, inside anybody's locks, so all that it does is
to append to a deque.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from loader_service.protocol.layout import IDS, Layout


class Lease:
    """The memory of one slot, for as long as anything refers to it."""

    __slots__ = ("__array_interface__", "__weakref__", "_arena")

    def __init__(self, arena: np.ndarray, start: int, nbytes: int) -> None:
        self._arena = arena  # keeps the mapping
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (arena.__array_interface__["data"][0] + start, True),  # True: read-only
        }


class Batch(Mapping[str, np.ndarray]):
    """What one step trains on: a mapping from field to array, each of shape (rows, *field shape).

    The arrays are read-only: other trainers may be reading the same memory. `n` counts batches from 0 over all epochs.
    """

    __slots__ = ("_arrays", "epoch", "ids", "n")

    def __init__(self, n: int, epoch: int, arrays: dict[str, np.ndarray]) -> None:
        self.n = n
        self.epoch = epoch
        self.ids: np.ndarray = arrays.pop(IDS)  # int64 (rows,): which samples; -1 in padding
        self._arrays = arrays

    def __getitem__(self, field: str) -> np.ndarray:
        try:
            return self._arrays[field]
        except KeyError:
            raise KeyError(f"{field!r}: the batch has the fields {list(self._arrays)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in self._arrays.items())
        return f"<Batch {self.n}, in epoch {self.epoch}: {len(self.ids)} rows of {fields}>"


class SlotReader:
    """Makes batches of one stream's slots: views, or copies where the reader keeps too many views."""

    def __init__(self, arena: np.ndarray, layout: Layout) -> None:
        self._arena, self._layout = arena, layout
        self._fields = [
            (name, offset, np.dtype(field.dtype), field.shape) for name, (offset, field) in layout.fields.items()
        ]

    def view(self, slot: int, rows: int, returned: Callable[[], None]) -> dict[str, np.ndarray]:
        """Return arrays over a slot; `returned` is called when the last of them is gone."""
        lease = Lease(self._arena, slot * self._layout.slot_nbytes, self._layout.slot_nbytes)
        weakref.finalize(lease, returned).atexit = False
        return self._arrays(np.asarray(lease), rows)

    def copy(self, slot: int, rows: int) -> dict[str, np.ndarray]:
        """Return copies of a slot's arrays: the slot can be returned at once."""
        start = slot * self._layout.slot_nbytes
        memory = self._arena[start : start + self._layout.slot_nbytes]
        copies = {name: array.copy() for name, array in self._arrays(memory, rows).items()}
        for array in copies.values():
            array.flags.writeable = False
        return copies

    def _arrays(self, memory: np.ndarray, rows: int) -> dict[str, np.ndarray]:
        return {name: np.ndarray((rows, *shape), dtype, memory, offset) for name, offset, dtype, shape in self._fields}
