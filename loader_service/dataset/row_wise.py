"""Rows of a task that go from step to step together, because a user's function takes many at once.

    columns    an array for each field, one row for each sample: what such a function gets and returns
    samples    a dict for each: what all other steps take that are not vectorised

They change from one into the other where a step needs it. Where the source gives columns, and all steps take them,
nothing is done sample by sample.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.naming import Naming
from loader_service.dataset.transforms.map_rows import MapRows
from loader_service.dataset.units import Turn, Unit, WholeSample, maps_rows
from loader_service.protocol.errors import LoaderError, SampleError, SpecMismatch

Samples = list[dict[str, Any]]
Columns = dict[str, np.ndarray]


class RowWise:
    """Does the steps of a chain to all rows of a task, one unit after the other."""

    def __init__(self, units: Sequence[Unit], naming: Callable[[int], Naming]) -> None:
        """Take what the chain knows.

        Args:
            naming: Names a sample in errors.
        """
        self._units, self._naming = units, naming

    def run(
        self, rows: Samples | Columns, ids: NDArray[np.int64], positions: NDArray[np.int64], turn: Turn
    ) -> Samples | Columns:
        """Return the rows after all steps.

        Args:
            turn: Its row and position are set here.
        Raises:
            SampleError: If a sample cannot be made; where a function takes many, each is tried alone, to name it.
        """
        for unit in self._units:
            if isinstance(unit, WholeSample) and isinstance(unit.step, MapRows):
                rows = self._call(unit, unit.step, self._columns(rows, unit.step), ids, positions, turn)
            elif isinstance(rows, dict) and unit.takes_columns:
                (field,) = unit.fields
                try:
                    rows[field] = unit.change_column(rows[field], turn, None)
                except Exception:
                    self._each(unit, _samples(rows), ids, positions, turn)
                    raise
            else:
                rows = self._each(unit, _samples(rows), ids, positions, turn)
        return rows

    def many_rows(self, columns: bool) -> set[int]:
        """Return the numbers of the steps that are done to many rows at once.

        Args:
            columns: Whether the source gives columns.
        """
        found: set[int] = set()
        for unit in self._units:
            columns = maps_rows(unit) or (columns and unit.takes_columns)
            if columns:
                found.update(unit.numbers)
        return found

    def _each(
        self, unit: Unit, samples: Samples, ids: NDArray[np.int64], positions: NDArray[np.int64], turn: Turn
    ) -> Samples:
        """Do a unit to one sample after the other."""
        for row, (sample_id, position) in enumerate(zip(ids.tolist(), positions.tolist(), strict=True)):
            with self._naming(sample_id):
                turn.row, turn.position = row, position
                samples[row] = unit.apply(samples[row], turn, {})
        return samples

    def _call(
        self,
        unit: WholeSample,
        step: MapRows,
        columns: Columns,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        turn: Turn,
    ) -> Columns:
        assert unit.expected is not None, "it was called before, to find out what it returns"
        key, expected = turn.keys.of(turn.epoch, unit.numbers[0]), unit.expected

        def call(rows: slice) -> Columns:
            made = step.apply_rows({name: column[rows] for name, column in columns.items()}, key, positions[rows])
            step.refuse_other_rows(made, expected)
            return made

        try:
            return call(slice(None))
        except Exception as error:
            for row, sample_id in enumerate(ids.tolist()):
                with self._naming(sample_id):
                    call(slice(row, row + 1))
            told = str(error) if isinstance(error, LoaderError) else f"{step.name}: {type(error).__name__}: {error}"
            failed = SampleError(f"samples {ids[0]} .. {ids[-1]}, of which each can be made alone: {told}")
            failed.add_note(traceback.format_exc())
            raise failed from error

    def _columns(self, rows: Samples | Columns, step: MapRows) -> Columns:
        """Return an array of its own for each field: the function may change it in place."""
        if isinstance(rows, dict):
            return rows
        columns: Columns = {}
        for name in rows[0]:
            values = [np.asarray(sample[name]) for sample in rows]
            shapes = {value.shape for value in values}
            if len(shapes) > 1:
                one, other, *_ = sorted(shapes)
                raise SpecMismatch(
                    f"{step.name} takes many samples at once, and field {name!r} is {one} in one of them and {other} "
                    "in another: make them alike before, with .resize(...) or .pad(..., to=...)"
                )
            columns[name] = np.stack(values)
        return columns


def _samples(rows: Samples | Columns) -> Samples:
    """Return a dict for each row, of views."""
    if not isinstance(rows, dict):
        return rows
    count = len(next(iter(rows.values())))
    return [{name: column[row, ...] for name, column in rows.items()} for row in range(count)]
