"""Fields that need no other field of their sample: the rows of a task are made field by field.

    gathered    small rows, whose steps take columns: one read into the rows, or beside them, then step after step
    viewed      rows that lie in one array in memory: each is changed from there into its row of the batch
    ragged      rows of different lengths, in one array: their bytes are copied

All else is made sample by sample: see chain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.naming import Naming
from loader_service.dataset.sources.arrays import ArraysReader
from loader_service.dataset.sources.pack import PackReader
from loader_service.dataset.sources.source import Reader
from loader_service.dataset.transforms.transform import ColumnDraws
from loader_service.dataset.units import Turn, Unit, steps_of, takes_columns
from loader_service.protocol.layout import lengths_of
from loader_service.protocol.spec import FieldSpec

LARGE = 2**16  # bytes of a row: beyond that, to gather rows first costs more than to go from row to row
Rows = Mapping[str, np.ndarray]


class Column:
    """A field whose rows are made for all samples of a task, whatever their other fields are."""

    together: bool  # its rows go from step to step together
    read_into_row = False  # they are read to where they are wanted

    def __init__(self, field: str, reader: Reader, units: list[Unit], naming: Callable[[int], Naming]) -> None:
        """Take what the chain knows.

        Args:
            units: All that is done to the field.
            naming: Names a sample in errors.
        """
        self.field, self.steps = field, tuple(step for unit in units for step in steps_of(unit, field))
        self.units, self._reader, self._naming = units, reader, naming

    @property
    def writing(self) -> dict[int, bool]:
        """The numbers of its steps, and whether each writes into the row."""
        return {number: into_row for number, _, into_row in self.steps}

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Make the rows of these samples, with the random numbers of their turn."""
        raise NotImplementedError(f"{type(self).__name__} must fill rows")


class GatheredColumn(Column):
    """Rows that are read at once, and go from step to step together."""

    together = True

    def __init__(self, *about: Any, source: FieldSpec, spec: FieldSpec) -> None:
        """Take a field that is one thing in the source, and maybe another one in the end."""
        super().__init__(*about)
        in_place = all(into_row and step.in_place for _, step, into_row in self.steps)
        self._source, self.read_into_row = source, in_place and source == spec

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Read, and do step after step."""
        values = rows = out[self.field]
        if not self.read_into_row:
            values = self._room(len(ids))
        self._reader.read_column(self.field, ids, values)
        try:
            for number, step, into_row in self.steps:
                values = step.apply_column(values, turn.draws[number], rows if into_row else None)
        except Exception:
            self._blame(ids, turn.draws)
            raise
        if values is not rows:
            rows[...] = values

    def _room(self, count: int) -> np.ndarray:
        return np.empty((count, *self._source.room), self._source.dtype)

    def _blame(self, ids: NDArray[np.int64], draws: Mapping[int, ColumnDraws]) -> None:
        """Raise the error of the first sample that fails alone."""
        for row, sample_id in enumerate(ids.tolist()):
            with self._naming(sample_id):
                values = self._room(1)
                self._reader.read_column(self.field, ids[row : row + 1], values)
                for number, step, _ in self.steps:
                    values = step.apply_column(values, draws[number][row : row + 1], None)


class ViewedColumn(Column):
    """Rows that are changed one after the other, each while it is in the cache, from where it lies."""

    together = False

    @property
    def writing(self) -> dict[int, bool]:
        """As the units have it that are fused."""
        return {number: unit.writes for unit in self.units for number in unit.numbers}

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Change row after row."""
        rows = out[self.field]
        changes = [(unit.change, bool(unit.into_row)) for unit in self.units]
        assert isinstance(self._reader, ArraysReader | PackReader), "no other reader has views"
        try:
            for turn.row, value in enumerate(self._reader.views(self.field, ids)):
                row = rows[turn.row, ...]
                for change, into_row in changes:
                    value = change(value, turn, row if into_row else None)
                if value is not row:
                    row[...] = value
        except Exception:
            with self._naming(int(ids[turn.row])):
                raise


class RaggedColumn(Column):
    """Rows of different lengths, without steps."""

    together = True

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Copy them to the front of their rows, with their lengths beside."""
        assert isinstance(self._reader, ArraysReader), "no other source has such rows"
        rows, sequences = out[self.field], self._reader.sequences(self.field, ids)
        out[lengths_of(self.field)][...] = sequences.lengths
        entries = rows.reshape(len(rows) * rows.shape[1], *rows.shape[2:])
        sequences.write(entries, np.arange(len(rows)) * rows.shape[1])


def column_of(
    field: str,
    reader: Reader,
    units: list[Unit],
    naming: Callable[[int], Naming],
    *,
    source: FieldSpec,
    spec: FieldSpec,
    varying: Collection[str],
) -> Column | None:
    """Return how the rows of a field are made by themselves; None where samples must be made one by one for it.

    Args:
        units: All that is done to it.
        source: What it is in the source; and `spec`, in the end.
        varying: Fields whose rows differ in length.
    """
    about = field, reader, units, naming
    if field not in reader.columns or any(len(unit.fields) != 1 for unit in units):
        return None
    if field in varying:
        return RaggedColumn(*about) if isinstance(reader, ArraysReader) and not units else None
    if not units or (source.nbytes < LARGE and all(map(takes_columns, units))):
        return GatheredColumn(*about, source=source, spec=spec)
    if isinstance(reader, ArraysReader | PackReader) and not source.varies:
        return ViewedColumn(*about)
    return None
