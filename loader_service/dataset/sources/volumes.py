"""Whole volumes or pictures, mapped: what no transform takes of them is never read.

They may differ in size: `random_patch` makes them alike.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.collate import native
from loader_service.dataset.sources.parts import Parts, Where, index_parts
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec


def index_fields(fields: dict[str, Where], table: ReadTable) -> Index:
    """Return the index of each field, as "field.shapes" and "field.files".

    Raises:
        DatasetError: If one has more volumes than another.
    """
    index: Index = {}
    for field, where in fields.items():
        index |= as_sub_index(field, index_parts(field, where, table))
    counts = {field: len(index[f"{field}.shapes"]) for field in fields}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{field}: {count:,}" for field, count in counts.items())
        raise DatasetError(f"fields of different numbers of volumes ({told}): expected as many in all, in one order")
    return index


def open_fields(fields: dict[str, Where], index: Index, table: ReadTable) -> dict[str, Parts]:
    """Return the arrays of each field."""
    return {field: Parts(field, where, sub_index(index, field), table) for field, where in fields.items()}


class Volumes(Source):
    """Each field is one array or several, of any size; all fields have as many. Sample i is volume i, and so on."""

    kind: Literal["volumes"] = "volumes"
    fields: Annotated[dict[str, Where], Field(min_length=1)]
    repeat: Annotated[int, Field(ge=1, lt=2**31, description="How often each volume comes in an epoch.")] = 1

    def make_index(self, table: ReadTable) -> Index:
        """Look at the shape of each."""
        return index_fields(self.fields, table)

    def reader(self, index: Index, table: ReadTable) -> VolumesReader:
        """Open the volumes."""
        return VolumesReader(open_fields(self.fields, index, table), self.repeat)


class VolumesReader:
    """Hands out views."""

    columns: frozenset[str] = frozenset()

    def __init__(self, parts: dict[str, Parts], repeat: int) -> None:
        self._parts = parts
        self._volumes = len(next(iter(parts.values())))
        self._repeat = repeat

    def __len__(self) -> int:
        return self._volumes * self._repeat

    def model(self, sample_id: int) -> Spec:
        """Return what this volume looks like; it is not read."""
        number = sample_id % self._volumes
        return {field: parts.spec(tuple(parts.shapes[number])) for field, parts in self._parts.items()}

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return a view of each field."""
        number = sample_id % self._volumes
        return {field: native(parts[number]) for field, parts in self._parts.items() if field in fields}

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Never called: volumes may differ in size."""
        raise AssertionError(f"volumes have no column {field!r}")

    def describe(self, sample_id: int) -> str:
        """Return the file of the first field, or which volume it is."""
        return name_of(self._parts, sample_id % self._volumes)


def name_of(parts: dict[str, Parts], number: int) -> str:
    """Return the file of a volume's first field, or which one it is.

    >>> name_of({}, 2)
    'volume 2'
    """
    first = next(iter(parts.values()), None)
    return (first.path(number) if first is not None else "") or f"volume {number}"
