"""`Batch`: read-only arrays over a slot, and the lease that gives the slot back when the last of them is gone.

One `Lease` object owns all arrays of a batch. Every view that NumPy, TensorFlow or JAX makes of them keeps it alive;
its finalizer then returns the slot. A finalizer may run in any thread, inside anybody's locks, so all that it does is
to append to a deque.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.protocol.arena import SlotArrays, address_of, arrays_of_all_slots
from loader_service.protocol.layout import ALIGNMENT, IDS, Layout
from loader_service.protocol.nesting import fields_within, group_of
from loader_service.protocol.ragged import assembled
from loader_service.protocol.spec import Spec


class Lease:
    """The memory of one slot, for as long as anything refers to it."""

    __slots__ = ("__array_interface__", "_memory", "_returned")

    def __init__(self, memory: np.ndarray, address: int, nbytes: int, returned: Callable[[], None]) -> None:
        self._memory = memory  # which the address lies in: it is there for as long as this is
        self._returned = returned
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, True),  # True: read-only
        }

    def __del__(self, is_over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_over():
            self._returned()


class Stacks:
    """Copies of one field of several slots, in memory that is used again when no array lies over it any more.

    Of fresh memory, each page is a fault of its own, which takes longer than to write to it.
    """

    def __init__(self, of_slots: np.ndarray) -> None:
        """Take the field of all slots, of shape (slots, rows, *field shape)."""
        self._of_slots = of_slots
        self._free: deque[np.ndarray] = deque()  # appended to by finalizers

    def take(self, slots: list[int], rows: int) -> np.ndarray:
        """Return the first rows of some slots, one after the other."""
        shape, dtype = (len(slots), rows, *self._of_slots.shape[2:]), self._of_slots.dtype
        room = self._room(math.prod(shape) * dtype.itemsize)
        for copy, slot in zip(np.ndarray(shape, dtype, room), slots, strict=True):
            copy[...] = self._of_slots[slot, :rows]
        lease = Lease(room, address_of(room), len(room), partial(self._free.append, room))
        return np.ndarray(shape, dtype, np.asarray(lease))

    def _room(self, nbytes: int) -> np.ndarray:
        """Return at least so many bytes, where TensorFlow takes arrays as they are."""
        room = self._free.popleft() if self._free else None
        if room is not None and len(room) >= nbytes:
            return room
        fresh = np.empty(max(1, nbytes) + ALIGNMENT, np.uint8)
        return fresh[-address_of(fresh) % ALIGNMENT :][: max(1, nbytes)]


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


@dataclass(frozen=True)
class Bundle:
    """Several batches that follow one another, and are of one shape, in one array for each field: copies."""

    n: int  # of the first batch
    arrays: dict[str, np.ndarray]  # each of shape (batches, rows, *field shape)
    ids: NDArray[np.int64]  # (batches, rows)

    @classmethod
    def of(cls, n: int, arrays: dict[str, np.ndarray]) -> Bundle:
        """Take the arrays, ids among them."""
        return cls(n, arrays, arrays.pop(IDS))

    def __len__(self) -> int:
        return len(self.ids)


class SlotReader:
    """Makes batches of one stream's slots: views, or copies where the reader keeps too many views."""

    def __init__(self, arena: np.ndarray, layout: Layout, spec: Spec) -> None:
        self._arena, self._layout = arena, layout
        self._address, self._nbytes = address_of(arena), layout.stride
        self._arrays = SlotArrays(layout)
        self._of_several = {name: field for name, field in spec.items() if field.form != "dense"}  # arrays

    def view(self, slot: int, rows: int, returned: Callable[[], None]) -> dict[str, Any]:
        """Return fields over a slot; `returned` is called when the last of their arrays is gone."""
        lease = Lease(self._arena, self._address + slot * self._nbytes, self._nbytes, returned)
        return assembled(self._arrays.read(np.asarray(lease), rows), self._of_several)

    def copy(self, slot: int, rows: int) -> dict[str, Any]:
        """Return copies of a slot's fields: the slot can be returned at once."""
        memory = self._arena[slot * self._nbytes : (slot + 1) * self._nbytes]
        copies = {name: array.copy() for name, array in self._arrays.read(memory, rows).items()}
        for array in copies.values():
            array.flags.writeable = False
        return assembled(copies, self._of_several)

    def stack(self, slots: list[int], rows: int) -> dict[str, np.ndarray]:
        """Return copies of the fields of several slots, one after the other: all batches have the same shapes."""
        return {name: stacks.take(slots, rows) for name, stacks in self._stacks.items()}

    @cached_property
    def _stacks(self) -> dict[str, Stacks]:
        return {name: Stacks(array) for name, array in arrays_of_all_slots(self._arena, self._layout).items()}
