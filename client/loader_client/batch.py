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

from loader_service.protocol.arena import SlotArrays
from loader_service.protocol.layout import IDS, Layout
from loader_service.protocol.nesting import fields_within, group_of
from loader_service.protocol.ragged import assembled
from loader_service.protocol.spec import Spec


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


class Batch(Mapping[str, Any]):
    """What one step trains on: a mapping from field to array, each of shape (rows, *field shape).

    A ragged field is a `Ragged`, one of strings a `Text`: two arrays each. All arrays are read-only: other trainers may
    be reading the same memory. `n` counts batches from 0 over all epochs. Fields of a group are here by their whole
    names, as "meta/age"; `batch["meta"]` is a dict of them.
    """

    __slots__ = ("_arrays", "epoch", "ids", "n")

    def __init__(self, n: int, epoch: int, fields: dict[str, Any]) -> None:
        self.n = n
        self.epoch = epoch
        self.ids: np.ndarray = fields.pop(IDS)  # int64 (rows,): which samples; -1 in padding
        self._arrays = fields

    def __getitem__(self, field: str) -> Any:
        """Return an array; of a name that several fields begin with ("meta" of "meta/age"), a dict of theirs."""
        try:
            return self._arrays[field]
        except KeyError:
            within = fields_within(field, self._arrays) if isinstance(field, str) else ()
            if within:
                return group_of(within, field, self._arrays)
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

    def __init__(self, arena: np.ndarray, layout: Layout, spec: Spec) -> None:
        self._arena, self._nbytes, self._spec = arena, layout.stride, spec
        self._arrays = SlotArrays(layout)

    def view(self, slot: int, rows: int, returned: Callable[[], None]) -> dict[str, Any]:
        """Return fields over a slot; `returned` is called when the last of their arrays is gone."""
        lease = Lease(self._arena, slot * self._nbytes, self._nbytes)
        weakref.finalize(lease, returned).atexit = False
        return assembled(self._arrays.read(np.asarray(lease), rows), self._spec)

    def copy(self, slot: int, rows: int) -> dict[str, Any]:
        """Return copies of a slot's fields: the slot can be returned at once."""
        memory = self._arena[slot * self._nbytes : (slot + 1) * self._nbytes]
        copies = {name: array.copy() for name, array in self._arrays.read(memory, rows).items()}
        for array in copies.values():
            array.flags.writeable = False
        return assembled(copies, self._spec)
