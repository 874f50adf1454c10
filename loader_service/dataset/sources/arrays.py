"""Arrays with one row a sample: `.npy` files, memory-mapped, or arrays in memory, handed over as a memfd."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.collate import native
from loader_service.dataset.sequences import Sequences
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ragged import Ragged
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import TableRef

Where = str | SkipJsonSchema[TableRef]  # a file can only name paths


class RaggedRef(BaseModel):
    """Rows of different lengths: their entries, one row after the other, and where each row starts and ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: Where
    row_splits: Where


class Arrays(Source):
    """Each field is the path of a `.npy` file, or a table in memory; all have one row for each sample."""

    kind: Literal["arrays"] = "arrays"
    fields: dict[str, Where | RaggedRef]

    def make_index(self, table: ReadTable) -> Index:
        """Take the identity of the files: size and time of change; tables carry the hash of their content."""
        parts = (
            part
            for where in self.fields.values()
            for part in ((where.values, where.row_splits) if isinstance(where, RaggedRef) else (where,))
        )
        files = [Path(part) for part in parts if isinstance(part, str)]
        for path in files:
            if not path.is_file():
                raise DatasetError(f"array file {str(path)!r} does not exist")
        stats = [path.stat() for path in files]
        return {"files": np.asarray([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64).reshape(-1, 2)}

    def reader(self, index: Index, table: ReadTable) -> ArraysReader:
        """Map the files and tables."""
        return ArraysReader({name: _open(name, where, table) for name, where in self.fields.items()})


def ragged_of(name: str, value: Any) -> Ragged | None:
    """Return rows of different lengths as one array; None if it is something else.

    Raises:
        DatasetError: If they differ in more than their first axis.
    """
    if isinstance(value, Ragged):
        return Ragged(np.ascontiguousarray(value.values), np.ascontiguousarray(value.row_splits, np.int64))
    if not isinstance(value, list | tuple) or not all(isinstance(row, np.ndarray) and row.ndim for row in value):
        return None
    if len({len(row) for row in value}) <= 1:
        return None
    first = value[0]
    for number, row in enumerate(value):
        if row.shape[1:] != first.shape[1:] or row.dtype != first.dtype:
            raise DatasetError(
                f"from_arrays: row {number} of {name!r} is {row.dtype} {row.shape}, the first is {first.dtype} "
                f"{first.shape}: rows may differ in their first axis only"
            )
    splits = np.zeros(len(value) + 1, np.int64)
    np.cumsum([len(row) for row in value], out=splits[1:])
    return Ragged(native(np.concatenate(value)), splits)


def _open(name: str, where: Where | RaggedRef, table: ReadTable) -> np.ndarray | Ragged:
    if isinstance(where, RaggedRef):
        return _ragged(name, open_rows(name, where.values, table), open_rows(name, where.row_splits, table))
    return open_rows(name, where, table)


def _ragged(name: str, values: np.ndarray, splits: np.ndarray) -> Ragged:
    steps = np.diff(splits) if splits.ndim == 1 and splits.dtype.kind in "iu" else np.asarray([-1])
    if len(splits) < 1 or splits[0] != 0 or steps.min(initial=0) < 0 or splits[-1] != len(values):
        raise DatasetError(
            f"field {name!r}: row_splits are no rows of {len(values):,} values: expected whole numbers "
            f"that rise from 0 to {len(values):,}"
        )
    return Ragged(np.ascontiguousarray(native(values)), np.asarray(splits, np.int64))


def open_rows(name: str, where: str | TableRef, table: ReadTable) -> np.ndarray:
    """Return a table, or the array of a file, mapped; it has rows.

    Raises:
        DatasetError: If the file holds no such array; `name` says what it is for.
    """
    return table(where) if isinstance(where, TableRef) else map_array(name, where)


def map_array(name: str, where: str) -> np.ndarray:
    """Map the `.npy` file of a field.

    Raises:
        DatasetError: If it holds no single array of one axis or more.
    """
    try:
        mapped = np.load(where, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DatasetError(f"field {name!r}: {where!r} cannot be mapped: {error}") from error
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise DatasetError(f"field {name!r}: {where!r} is an archive of arrays: save each one as .npy")
    if mapped.ndim == 0:
        raise DatasetError(f"field {name!r}: {where!r} holds a single number, expected one row for each sample")
    return mapped


def _row_spec(name: str, array: np.ndarray | Ragged) -> FieldSpec:
    try:
        if isinstance(array, Ragged):
            entry = FieldSpec.like(array.values.shape[1:], array.dtype)
            return FieldSpec((None, *entry.shape), entry.dtype, (max(1, int(array.lengths.max(initial=0))),))
        return FieldSpec.like(array.shape[1:], array.dtype)
    except DatasetError as error:
        raise DatasetError(f"field {name!r}: {error}") from None


class ArraysReader:
    """Gathers rows with one `numpy.take` into the batch."""

    def __init__(self, arrays: dict[str, np.ndarray | Ragged]) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
            raise DatasetError(f"arrays of different lengths ({told}): expected one row for each sample in all")
        # A plain ndarray: memmap's subclass machinery would run at every access.
        self._ragged = {name: array for name, array in arrays.items() if isinstance(array, Ragged)}
        self._arrays = {
            name: array if isinstance(array, Ragged) else np.asarray(array) for name, array in arrays.items()
        }
        self._spec: Spec = {name: _row_spec(name, array) for name, array in arrays.items()}
        self.columns = frozenset(arrays)
        self._length = next(iter(lengths.values()))
        if self._length == 0:
            raise DatasetError(f"the arrays are empty ({', '.join(arrays)}): there is no sample in them")

    def __len__(self) -> int:
        return self._length

    def model(self, sample_id: int) -> Spec:
        """Return what all rows look like; none is read."""
        return self._spec

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return one row of each field."""
        # In the order of the spec, not of the set, which is another one in each process.
        return {name: native(array[sample_id]) for name, array in self._arrays.items() if name in fields}

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Gather rows."""
        array = self._arrays[field]
        assert isinstance(array, np.ndarray), "such rows are found by sequences()"
        take_rows(array, ids, out)

    def rows(self, field: str, ids: NDArray[np.int64]) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return an array in which some rows lie, and at which places."""
        array = self._arrays[field]
        assert isinstance(array, np.ndarray), "such rows are found by sequences()"
        return (array, ids) if array.dtype.isnative else (native(array[ids]), np.arange(len(ids)))

    def lengths(self, field: str) -> NDArray[np.int64] | None:
        """Return the length of each row, where rows differ."""
        ragged = self._ragged.get(field)
        return None if ragged is None else ragged.lengths

    def sequences(self, field: str, ids: NDArray[np.int64]) -> Sequences:
        """Return rows of different lengths where they are; that of id -1 is empty."""
        ragged = self._ragged[field]
        starts = ragged.row_splits[ids]
        lengths = ragged.row_splits[ids + 1] - starts
        if ids[-1] < 0:  # the rows of padding are the last ones
            lengths[ids < 0] = 0
        return Sequences(ragged.values, starts, lengths)

    def describe(self, sample_id: int) -> str:
        """Return the row's number."""
        return f"row {sample_id}"


def take_rows(array: np.ndarray, ids: NDArray[np.int64], out: np.ndarray) -> None:
    """Gather `array[ids]` into `out`, of shape (*ids.shape, *array.shape[1:]); all ids are in range."""
    if array.dtype == out.dtype and array.flags.c_contiguous:  # of any other, take() copies the whole
        # mode="clip": with the default, NumPy gathers into a buffer first.
        np.take(array, ids, axis=0, out=out, mode="clip")
    else:
        out[...] = array[ids]
