"""Where each row of each field sits inside an arena. Arithmetic only: no memory is touched here.

    arena   | slot 0 | slot 1 | ... | slot S-1 |
    slot    | image: B rows | pad | label: B rows | pad | ids: B rows | pad | shapes | pad | stage | beyond |

A field's rows are contiguous and start on a multiple of ALIGNMENT, so one field of one slot is one NumPy
array without a copy, which TensorFlow and JAX alias. Daemon, worker and client compute the same layout
from the same spec; only the spec travels. `ids` holds the sample ids, for `batch.ids`.

Where shapes differ from batch to batch, room is kept for the largest, and the shapes of this one stand in `shapes`.
Where a batch is made out of its rows when all of them are there, the rows are written to the stage.

Nobody knows how large the largest batch of a user's Sequence is. An array that has no room where it belongs goes
*beyond*: addresses behind the slot, which have no memory until a batch needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from loader_service.protocol.spec import FieldSpec, Spec

ALIGNMENT = 64  # bytes: a cache line, and what TensorFlow and JAX ask of memory they do not copy
PAGE = 4096  # bytes: slots start on pages, so no two share one
STRETCH = 16  # times the room of an array, or a page: so large may it be that goes beyond

IDS = "ids"  # the hidden last field: int64 (), -1 in padding rows
IDS_SPEC = FieldSpec((), "int64")


@dataclass(frozen=True)
class Place:
    """Room for one array of a slot."""

    offset: int  # bytes from the start of the slot
    shape: tuple[int, ...]  # rows first; the largest that fits, where it differs
    dtype: str
    varies: bool = False  # the array's own shape stands among the slot's `shapes`
    beyond: int = 0  # where it is if it is larger than this, in bytes from the start of the slot; 0: it cannot be

    @property
    def nbytes(self) -> int:
        """Bytes that there is room for."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def most_nbytes(self) -> int:
        """Bytes of the largest array that there can be."""
        return STRETCH * max(self.nbytes, PAGE) if self.beyond else self.nbytes


@dataclass(frozen=True)
class Layout:
    """The offsets of one slot's arrays, and the room that a slot takes."""

    arrays: dict[str, Place]  # what readers see, ids included
    shapes: Place  # int64: the shapes of the arrays that differ, one after the other
    stage: dict[str, Place]  # what rows are written to, in place of the field
    slot_nbytes: int  # that are reserved for one slot
    stride: int  # bytes from the start of one slot to the start of the next

    @classmethod
    def of(cls, spec: Spec, batch_size: int, stage: Spec | None = None, *, whole: bool = False) -> Layout:
        """Lay out `batch_size` rows of every field of `spec`, and of their ids.

        >>> layout = Layout.of({"x": FieldSpec((5,), "uint8")}, batch_size=3)
        >>> [(name, place.offset) for name, place in layout.arrays.items()], layout.slot_nbytes
        ([('x', 0), ('ids', 64)], 4096)

        Args:
            stage: Fields of rows out of which batches are made.
            whole: Every batch may have another number of rows, and may be larger than any before.
        """
        shelf = _Shelf()
        arrays = {
            name: shelf.put(shape, field.dtype, varies or whole)
            for name, shape, field, varies in _arrays(spec, batch_size)
        }
        dims = sum(len(place.shape) for place in arrays.values() if place.varies)
        shapes = shelf.put((dims,), "int64")
        staged = {name: shelf.put((batch_size, *field.room), field.dtype) for name, field in (stage or {}).items()}
        slot_nbytes = end = round_up(shelf.end, PAGE)
        if whole:
            for name, place in arrays.items():
                arrays[name] = replace(place, beyond=end)
                end += round_up(arrays[name].most_nbytes, PAGE)
        return cls(arrays, shapes, staged, slot_nbytes, end)

    @property
    def rows(self) -> dict[str, Place]:
        """The arrays that rows are written to, ids included."""
        return {**{name: place for name, place in self.arrays.items() if not place.varies}, **self.stage}


class _Shelf:
    """Puts one array behind the other."""

    def __init__(self) -> None:
        self.end = 0

    def put(self, shape: tuple[int, ...], dtype: str, varies: bool = False) -> Place:
        place = Place(self.end, shape, dtype, varies)
        self.end += round_up(place.nbytes, ALIGNMENT)
        return place


def splits_of(field: str) -> str:
    """Return the array that says where each row of a ragged field ends."""
    return f"{field}:row_splits"


def lengths_of(field: str) -> str:
    """Return the array that says how many entries each row of the stage has."""
    return f"{field}:lengths"


def arrays_of(spec: Spec) -> list[str]:
    """Return the names of the arrays that make up a batch: a ragged field has two."""
    return [name for field in spec for name in ([field] if spec[field].form == "dense" else [field, splits_of(field)])]


def _arrays(spec: Spec, rows: int) -> Iterator[tuple[str, tuple[int, ...], FieldSpec, bool]]:
    """Yield name, shape, spec of the arrays that make up a batch, and whether the shape differs."""
    for name, field in {**spec, IDS: IDS_SPEC}.items():
        if field.form == "dense":
            yield name, (rows, *field.room), field, field.varies
        else:
            most, *entry = field.room
            yield name, (rows * most, *entry), field, True
            yield splits_of(name), (rows + 1,), FieldSpec((), "int64"), True


def round_up(nbytes: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that holds `nbytes`.

    >>> round_up(65, 64)
    128
    """
    return -(-nbytes // multiple) * multiple
