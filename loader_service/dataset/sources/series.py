"""Windows over a long series: `length` steps of it, as one sample; and, from another one, what belongs to them.

Each recording has windows of its own: none crosses from one into the next. A window is numbered, not stored: a
million of them over one mapped file cost no more than the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.collate import native
from loader_service.dataset.sources.arrays import map_array, take_rows
from loader_service.dataset.sources.parts import Parts, Where, index_parts
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec
from loader_service.protocol.tables import TableRef

Steps = Annotated[int, Field(ge=1, lt=2**48)]
FromZero = Annotated[int, Field(ge=0, lt=2**48)]


class Series(Source):
    """Field `x`: the steps s, s + sampling_rate, ... of a window; `y`: the step s + offset of `y`, or several of it."""

    kind: Literal["series"] = "series"
    x: Where
    y: Where | None = None
    length: Annotated[Steps, Field(description="Steps of a window.")]
    stride: Annotated[Steps, Field(description="Steps from the start of a window to that of the next one.")] = 1
    sampling_rate: Annotated[Steps, Field(description="Steps from one that is taken to the next one.")] = 1
    offset: Annotated[FromZero, Field(description="Steps from the start of a window to its target.")] = 0
    target_length: Annotated[Steps | None, Field(description="Steps of a target; unset: one, without an axis.")] = None
    start: Annotated[FromZero, Field(description="The first step that is used.")] = 0
    stop: Annotated[Steps | None, Field(description="The step before which all ends.")] = None
    lengths: Annotated[
        str | SkipJsonSchema[TableRef] | None, Field(description="Steps of each recording, where one array holds all.")
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.y is None and (self.offset or self.target_length is not None):
            raise ValueError("offset and target_length say where a target lies: give y, which may be x again")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop {self.stop} must be above start {self.start}")
        return self

    @property
    def steps(self) -> dict[str, NDArray[np.int64]]:
        """Return which steps each field takes, counted from the start of a window; of shape () for one alone."""
        taken = {"x": np.arange(self.length, dtype=np.int64) * self.sampling_rate}
        if self.y is not None:
            targets = np.arange(self.target_length or 1, dtype=np.int64) * self.sampling_rate + self.offset
            taken["y"] = targets[0] if self.target_length is None else targets
        return taken

    def make_index(self, table: ReadTable) -> Index:
        """Count the windows of each recording."""
        index: Index = {}
        for field, where in {"x": self.x, "y": self.y}.items():
            if where is not None:
                index |= as_sub_index(field, index_parts(field, where, table))
                _check_alike(field, index[f"{field}.shapes"][:, 1:])
        found = index["x.shapes"][:, 0]
        if self.y is not None:
            _check_same_steps(found, index["y.shapes"][:, 0])
        index["begins"], counts = self._recordings(found, table)
        reach = max(int(steps.max()) for steps in self.steps.values())
        windows = np.maximum(0, -(-(counts - reach) // self.stride))
        if not windows.any():
            raise DatasetError(
                f"no window fits: it reaches over {reach + 1:,} steps, and the longest recording has {counts.max():,}"
            )
        index["windows"] = np.concatenate([np.zeros(1, np.int64), np.cumsum(windows)])
        return index

    def _recordings(self, found: NDArray[np.int64], table: ReadTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where in its array each recording begins, and how many steps it has."""
        cut = self.start or self.stop is not None
        if self.lengths is None:
            if cut and len(found) > 1:
                raise DatasetError("start and stop cut one series: cut the recordings before you give them")
            stop = int(found[0]) if self.stop is None else self.stop
            if cut and not self.start < stop <= found[0]:
                raise DatasetError(f"steps {self.start:,} to {stop:,} are not all in the series: it has {found[0]:,}")
            counts = np.asarray([stop - self.start], np.int64) if cut else found.astype(np.int64)
            return np.full(len(found), self.start, np.int64), counts
        if cut or len(found) > 1:
            raise DatasetError("lengths cut one array into recordings: give one, without start and stop")
        lengths = table(self.lengths) if isinstance(self.lengths, TableRef) else map_array("lengths", self.lengths)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
            raise DatasetError(
                f"lengths is {lengths.dtype} {lengths.shape}, expected the number of steps of each recording"
            )
        counts = lengths.astype(np.int64)
        if counts.sum() != found[0]:
            raise DatasetError(f"lengths add up to {counts.sum():,}, and the series has {found[0]:,} steps")
        return np.cumsum(counts) - counts, counts

    def reader(self, index: Index, table: ReadTable) -> SeriesReader:
        """Open the series."""
        parts = {"x": Parts("x", self.x, sub_index(index, "x"), table)}
        if self.y is not None:
            parts["y"] = Parts("y", self.y, sub_index(index, "y"), table)
        return SeriesReader(self, index, parts)


def _check_alike(field: str, shapes: NDArray[np.int64]) -> None:
    for number in np.flatnonzero((shapes != shapes[0]).any(axis=1))[:1]:
        got, expected = tuple(shapes[number].tolist()), tuple(shapes[0].tolist())
        raise DatasetError(
            f"recording {number} of field {field!r} has steps of the shape {got}, and recording 0 {expected}: "
            "expected alike"
        )


def _check_same_steps(x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    if len(x) != len(y):
        raise DatasetError(f"x has {len(x):,} recordings, and y {len(y):,}: expected as many, in the same order")
    for number in np.flatnonzero(x != y)[:1]:
        which = f"recording {number}: " if len(x) > 1 else ""
        raise DatasetError(
            f"{which}x has {x[number]:,} steps, and y {y[number]:,}: expected as many. Give both whole, and say with "
            "offset how many steps after the start of a window its target lies"
        )


class SeriesReader:
    """Gathers the steps of many windows with one `numpy.take` into the batch."""

    def __init__(self, source: Series, index: Index, parts: dict[str, Parts]) -> None:
        self._stride = source.stride
        self._steps = source.steps
        self._parts = parts
        self._begins, self._windows = index["begins"], index["windows"]
        self.columns = frozenset(parts)

    def __len__(self) -> int:
        return int(self._windows[-1])

    def model(self, sample_id: int) -> Spec:
        """Return what all windows look like; none is read."""
        return {
            field: parts.spec((*self._steps[field].shape, *parts.shapes[0, 1:])) for field, parts in self._parts.items()
        }

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return one window, and its target."""
        (recording,), (start,) = self._find(np.asarray([sample_id], np.int64))
        return {
            field: native(parts[self._part(field, recording)][start + self._steps[field]])
            for field, parts in self._parts.items()
            if field in fields
        }

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Gather the steps of many windows."""
        recordings, starts = self._find(ids)
        parts = self._parts[field]
        steps = np.add.outer(starts, self._steps[field])
        if len(parts) == 1:
            take_rows(parts[0], steps, out)
            return
        for recording in np.unique(recordings):
            rows = np.flatnonzero(recordings == recording)
            out[rows] = parts[recording][steps[rows]]

    def describe(self, sample_id: int) -> str:
        """Return the file and the recording, and the first and last step in it."""
        (recording,), (start,) = self._find(np.asarray([sample_id], np.int64))
        several = len(self._begins) > 1
        step = int(start) - (int(self._begins[recording]) if several else 0)
        path = self._parts["x"].path(self._part("x", recording))
        steps = f"steps {step} .. {step + int(self._steps['x'][-1])}"
        return ", ".join(filter(None, [path, f"recording {recording}" if several else "", steps]))

    def _part(self, field: str, recording: int) -> int:
        """Return which array a recording lies in: its own, unless one holds all."""
        return recording if len(self._parts[field]) > 1 else 0

    def _find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the recording of each window, and the step of its array that it starts with."""
        recordings = np.searchsorted(self._windows, ids, side="right") - 1
        return recordings, self._begins[recordings] + (ids - self._windows[recordings]) * self._stride
