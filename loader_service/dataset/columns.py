"""Fields that need no other field of their sample: the rows of a task are made field by field.

    gathered    small rows, whose steps take columns: one read into the rows, or beside them, then step after step
    chosen      parts of pictures that lie in one array in memory, mirrored or not: one copy for all, then the same
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
from loader_service.dataset.units import Geometry, Turn, Unit
from loader_service.protocol.layout import lengths_of
from loader_service.protocol.spec import FieldSpec

LARGE = 2**16  # bytes of a row: beyond that, to gather rows first costs more than to go from row to row
IN_MEMORY = (ArraysReader, PackReader)  # that have rows in one array
Rows = Mapping[str, np.ndarray]


class Column:
    """A field whose rows are made for all samples of a task, whatever their other fields are."""

    together = False  # its rows go from step to step together

    def __init__(self, field: str, reader: Reader, units: list[Unit], naming: Callable[[int], Naming]) -> None:
        """Take what the chain knows.

        Args:
            units: All that is done to the field.
            naming: Names a sample in errors.
        """
        self.field, self.units = field, units
        self._reader, self._naming = reader, naming

    @property
    def read_into_row(self) -> bool:
        """Whether its rows are read to where they are wanted."""
        return False

    @property
    def writing(self) -> dict[int, bool]:
        """The numbers of its steps, and whether each writes into the row."""
        return {number: bool(unit.into_row) for unit in self.units for number in unit.numbers}

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Make the rows of these samples, with the random numbers of their turn."""
        raise NotImplementedError(f"{type(self).__name__} must fill rows")


class _Together(Column):
    """Rows that go from step to step together."""

    together = True

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Read, and do unit after unit; where one fails, find out for which sample."""
        rows = out[self.field]
        source, places = self._read(ids, rows)
        try:
            values = self._make(source, places, turn, rows)
        except Exception:
            for row, sample_id in enumerate(ids.tolist()):
                with self._naming(sample_id):
                    alone = self._read(ids[row : row + 1], rows)
                    self._make(*alone, turn.part(row, row + 1), rows[:1])
            raise
        if values is not rows:
            rows[...] = values

    def _read(self, ids: NDArray[np.int64], rows: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return an array in which these samples lie, and at which places."""
        raise NotImplementedError(f"{type(self).__name__} must read rows")

    def _make(self, source: np.ndarray, places: NDArray[np.int64], turn: Turn, rows: np.ndarray) -> np.ndarray:
        """Return rows after all units, where those that write into rows have left them."""
        raise NotImplementedError(f"{type(self).__name__} must make rows")

    def _changed(self, values: np.ndarray, units: list[Unit], turn: Turn, rows: np.ndarray) -> np.ndarray:
        for unit in units:
            values = unit.change_column(values, turn, rows if unit.into_row else None)
        return values


class GatheredColumn(_Together):
    """Rows that are read at once: where they are wanted, or beside that."""

    def __init__(self, *about: Any, source: FieldSpec, spec: FieldSpec) -> None:
        """Take a field that is one thing in the source, and maybe another one in the end."""
        super().__init__(*about)
        in_place = all(unit.into_row and unit.in_place for unit in self.units)
        self._source, self._in_place = source, in_place and source == spec

    @property
    def read_into_row(self) -> bool:
        """If all that is done to them is done there."""
        return self._in_place

    def _read(self, ids: NDArray[np.int64], rows: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        room = rows[: len(ids)] if self._in_place else np.empty((len(ids), *self._source.room), self._source.dtype)
        self._reader.read_column(self.field, ids, room)
        return room, ids

    def _make(self, source: np.ndarray, places: NDArray[np.int64], turn: Turn, rows: np.ndarray) -> np.ndarray:
        return self._changed(source, self.units, turn, rows)


class ChosenColumn(_Together):
    """Rows that begin as parts of pictures: these are copied from where the pictures lie."""

    @property
    def read_into_row(self) -> bool:
        """If nothing else is done to them that needs room of its own."""
        return bool(self.units[0].into_row)

    def _read(self, ids: NDArray[np.int64], rows: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        assert isinstance(self._reader, IN_MEMORY), "no other reader has pictures in memory"
        return self._reader.rows(self.field, ids)

    def _make(self, source: np.ndarray, places: NDArray[np.int64], turn: Turn, rows: np.ndarray) -> np.ndarray:
        first, *others = self.units
        assert isinstance(first, Geometry), "no other unit chooses"
        out = rows if first.into_row else None
        values = first.choose(source, places, turn, out, read_later=not others and out is not None)
        return self._changed(values, others, turn, rows)


class ViewedColumn(Column):
    """Rows that are changed one after the other, each while it is in the cache, from where it lies."""

    @property
    def writing(self) -> dict[int, bool]:
        """As the units have it that are fused."""
        return {number: unit.writes for unit in self.units for number in unit.numbers}

    def fill(self, ids: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        """Change row after row."""
        assert isinstance(self._reader, IN_MEMORY), "no other reader has rows in memory"
        rows = out[self.field]
        changes = [(unit.change, bool(unit.into_row)) for unit in self.units]
        array, places = self._reader.rows(self.field, ids)
        try:
            for turn.row, place in enumerate(places.tolist()):
                value, row = array[place], rows[turn.row, ...]
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
    in_memory = isinstance(reader, IN_MEMORY) and not source.varies
    together = all(unit.takes_columns for unit in units)
    if in_memory and together and units and _chooses(units[0]) and (len(units) == 1 or source.nbytes < LARGE):
        return ChosenColumn(*about)
    if not units or (together and source.nbytes < LARGE):
        return GatheredColumn(*about, source=source, spec=spec)
    return ViewedColumn(*about) if in_memory else None


def _chooses(unit: Unit) -> bool:
    return isinstance(unit, Geometry) and unit.run.chooses
