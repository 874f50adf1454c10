"""Rows of a task that go from step to step together, because a user's function takes many at once.

    columns    an array for each field, one row for each sample: what such a function gets and returns
    samples    a dict for each: what all other steps take that are not vectorised

They change from one into the other where a step needs it. Where the source gives columns, and all steps take them,
nothing is done sample by sample.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.naming import Naming
from loader_service.dataset.transforms.map import SampleFunction
from loader_service.dataset.transforms.map_rows import MapRows
from loader_service.dataset.transforms.transform import FieldTransform, SampleTransform
from loader_service.protocol.errors import LoaderError, SampleError, SpecMismatch
from loader_service.protocol.spec import Spec

Samples = list[dict[str, Any]]
Columns = dict[str, np.ndarray]
Steps = Sequence[tuple[int, FieldTransform | SampleTransform]]


class RowWise:
    """Does the steps of a chain to all rows of a task, one step after the other."""

    def __init__(self, steps: Steps, specs: Sequence[Spec], naming: Callable[[int], Naming]) -> None:
        """Take what the chain knows.

        Args:
            steps: Each with its number in the chain.
            specs: What a sample is before each step of the chain; the last one, after all.
            naming: Names a sample in errors.
        """
        self._steps, self._specs, self._naming = steps, specs, naming

    def run(
        self,
        rows: Samples | Columns,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        draws: Mapping[int, NDArray[np.float64]],
        key: Callable[[int], int],
    ) -> Samples | Columns:
        """Return the rows after all steps.

        Args:
            key: Of the random numbers of a step, by its number.
        Raises:
            SampleError: If a sample cannot be made; where a function takes many, each is tried alone, to name it.
        """
        for number, step in self._steps:
            if isinstance(step, MapRows):
                rows = self._call(step, number, self._columns(rows, step), ids, positions, key(number))
            elif isinstance(rows, dict) and isinstance(step, FieldTransform) and step.vectorised:
                try:
                    rows[step.field] = step.apply(rows[step.field], draws[number], None)
                except Exception:
                    self._each(step, number, _samples(rows), ids, positions, draws, key)
                    raise
            else:
                rows = self._each(step, number, _samples(rows), ids, positions, draws, key)
        return rows

    def many_rows(self, columns: bool) -> set[int]:
        """Return the numbers of the steps that are done to many rows at once.

        Args:
            columns: Whether the source gives columns.
        """
        found = set()
        for number, step in self._steps:
            columns = isinstance(step, MapRows) or (columns and isinstance(step, FieldTransform) and step.vectorised)
            if columns:
                found.add(number)
        return found

    def _each(
        self,
        step: FieldTransform | SampleTransform,
        number: int,
        samples: Samples,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        draws: Mapping[int, NDArray[np.float64]],
        key: Callable[[int], int],
    ) -> Samples:
        """Do a step to one sample after the other."""
        for row, sample_id in enumerate(ids.tolist()):
            with self._naming(sample_id):
                sample = samples[row]
                if isinstance(step, FieldTransform):
                    sample[step.field] = step.apply(sample[step.field], draws[number][row], None)
                    continue
                samples[row] = step.apply(sample, key(number), int(positions[row]))
                if isinstance(step, SampleFunction):
                    step.refuse_others(samples[row], self._specs[number + 1])
        return samples

    def _call(
        self,
        step: MapRows,
        number: int,
        columns: Columns,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        key: int,
    ) -> Columns:
        def call(rows: slice) -> Columns:
            made = step.apply_rows({name: column[rows] for name, column in columns.items()}, key, positions[rows])
            step.refuse_other_rows(made, self._specs[number + 1])
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
