"""A grid of patches over volumes or pictures that are too large for a model.

Along each axis patches begin every `size - overlap`; the last one is shifted inwards, so that it ends where the
volume does. So every voxel is covered, all patches are of one size, and nothing is made up at the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from loader_service.dataset.collate import native
from loader_service.dataset.sources.parts import Parts, Where
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.dataset.sources.volumes import index_fields, name_of, open_fields
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec

Extent = Annotated[int, Field(ge=1, lt=2**31)]
Overlap = Annotated[int, Field(ge=0, lt=2**31)]


class Patches(Source):
    """Fields as in `volumes`, all of one size along the axes that are cut: the first ones; others stay whole."""

    kind: Literal["patches"] = "patches"
    fields: Annotated[dict[str, Where], Field(min_length=1)]
    size: Annotated[tuple[Extent, ...], Field(min_length=1, description="Of a patch, along each of the first axes.")]
    overlap: Annotated[
        Overlap | tuple[Overlap, ...], Field(description="Of neighbours; one for all axes, or one for each.")
    ] = 0

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if len(self.overlaps) != len(self.size):
            raise ValueError(f"overlap {self.overlap} and size {self.size}: expected one number for each axis")
        if any(overlap >= size for overlap, size in zip(self.overlaps, self.size, strict=True)):
            raise ValueError(f"overlap {self.overlap} must be smaller than the patch, {self.size}")
        return self

    @property
    def overlaps(self) -> tuple[int, ...]:
        """Return the overlap along each axis."""
        return self.overlap if isinstance(self.overlap, tuple) else (self.overlap,) * len(self.size)

    def make_index(self, table: ReadTable) -> Index:
        """Look at the shape of each volume: fields must agree, and a patch must fit."""
        index = index_fields(self.fields, table)
        parts = open_fields(self.fields, index, table)
        extents = next(iter(parts.values())).shapes[:, : len(self.size)].tolist()
        for arrays in parts.values():
            for number, expected in enumerate(extents):
                self._check(arrays, number, expected)
        return index

    def _check(self, arrays: Parts, number: int, expected: list[int]) -> None:
        """Refuse a volume that is not as large as that of the first field, or smaller than a patch."""
        axes, shape = len(self.size), arrays.shapes[number].tolist()
        named = f"{name_of({arrays.field: arrays}, number)}: field {arrays.field!r} is of the shape {tuple(shape)}"
        if shape[:axes] != expected:
            raise DatasetError(
                f"{named}, and the first field {tuple(expected)} along the axes that are cut: expected alike"
            )
        if len(shape) < axes or any(have < want for have, want in zip(shape, self.size, strict=False)):
            raise DatasetError(f"{named}, smaller than a patch of {self.size}: make the patches smaller")
        whole = arrays.shapes[0, axes:].tolist()
        if shape[axes:] != whole:
            raise DatasetError(
                f"{named}, and volume 0 has {tuple(whole)} along the axes that stay whole: expected alike. Give size "
                "a number for each axis that may differ"
            )

    def grid(self, index: Index) -> Grid:
        """Return where the patches lie."""
        shapes = index[f"{next(iter(self.fields))}.shapes"]
        return Grid(shapes[:, : len(self.size)], self.size, self.overlaps)

    def reader(self, index: Index, table: ReadTable) -> PatchesReader:
        """Open the volumes."""
        return PatchesReader(self.grid(index), open_fields(self.fields, index, table))


@dataclass(frozen=True)
class Grid:
    """Where the patches of some volumes lie: volume after volume, and the last axis first. Arithmetic alone.

    >>> grid = Grid(np.array([[5, 4]]), size=(3, 2), overlap=(1, 0))
    >>> grid.find(np.arange(len(grid)))[1].tolist()
    [[0, 0], [0, 2], [2, 0], [2, 2]]
    """

    extents: NDArray[np.int64]  # of shape (volumes, axes)
    size: tuple[int, ...]
    overlap: tuple[int, ...]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Patches along each axis of each volume."""
        steps = np.subtract(self.size, self.overlap)
        counts: NDArray[np.int64] = -(-(self.extents - self.size) // steps) + 1
        return counts

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum(self._counts.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the volume of each patch, and its first corner there, of shape (len(ids), axes)."""
        volumes = np.searchsorted(self._ends, ids, side="right")
        numbers = ids - self._ends[volumes] + self._counts.prod(axis=1)[volumes]
        corners = np.empty((len(ids), len(self.size)), np.int64)
        for axis in reversed(range(len(self.size))):
            numbers, places = np.divmod(numbers, self._counts[volumes, axis])
            corners[:, axis] = self._corner(volumes, axis, places)
        return volumes, corners

    def cover(self, volume: int, axis: int) -> NDArray[np.int64]:
        """Return how many patches lie over each place of an axis; over a voxel lie as many as the product says."""
        corners = self._corner(volume, axis, np.arange(self._counts[volume, axis]))
        changes = np.zeros(int(self.extents[volume, axis]) + 1, np.int64)
        changes[corners] += 1  # no two begin, and no two end, at one place
        changes[corners + self.size[axis]] -= 1
        return np.cumsum(changes[:-1])

    def _corner(self, volumes: Any, axis: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the first, second, ... patch of an axis begins: the last one ends where the volume does."""
        corners: NDArray[np.int64] = np.minimum(
            places * (self.size[axis] - self.overlap[axis]), self.extents[volumes, axis] - self.size[axis]
        )
        return corners

    def box(self, corner: NDArray[np.int64]) -> tuple[slice, ...]:
        """Return the place of a patch, as an index of its volume."""
        return tuple(slice(start, start + size) for start, size in zip(corner.tolist(), self.size, strict=True))


class PatchesReader:
    """Copies boxes out of mapped volumes."""

    def __init__(self, grid: Grid, parts: dict[str, Parts]) -> None:
        self._grid, self._parts = grid, parts
        self.columns = frozenset(parts)

    def __len__(self) -> int:
        return len(self._grid)

    def model(self, sample_id: int) -> Spec:
        """Return what all patches look like; none is read."""
        size = self._grid.size
        return {field: parts.spec((*size, *parts.shapes[0, len(size) :])) for field, parts in self._parts.items()}

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return one patch of each field."""
        (volume,), (corner,) = self._grid.find(np.asarray([sample_id], np.int64))
        box = self._grid.box(corner)
        return {field: native(parts[volume][box]) for field, parts in self._parts.items() if field in fields}

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Copy many patches of a field."""
        parts = self._parts[field]
        for row, (volume, corner) in enumerate(zip(*self._grid.find(ids), strict=True)):
            out[row] = parts[volume][self._grid.box(corner)]

    def describe(self, sample_id: int) -> str:
        """Return the volume, and where in it the patch begins."""
        (volume,), (corner,) = self._grid.find(np.asarray([sample_id], np.int64))
        return f"{name_of(self._parts, int(volume))}, patch at {tuple(corner.tolist())}"
