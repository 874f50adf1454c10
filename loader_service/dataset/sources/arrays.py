"""Arrays with one row a sample: `.npy` files, memory-mapped, or arrays in memory, handed over as a memfd."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.collate import native
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import TableRef


class Arrays(Source):
    """Each field is the path of a `.npy` file, or a table in memory; all have one row for each sample."""

    kind: Literal["arrays"] = "arrays"
    fields: dict[str, str | SkipJsonSchema[TableRef]]  # a file can only name paths

    def make_index(self, table: ReadTable) -> Index:
        """Take the identity of the files: size and time of change; tables carry the hash of their content."""
        files = [Path(where) for where in self.fields.values() if isinstance(where, str)]
        for path in files:
            if not path.is_file():
                raise DatasetError(f"array file {str(path)!r} does not exist")
        stats = [path.stat() for path in files]
        return {"files": np.asarray([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64).reshape(-1, 2)}

    def reader(self, index: Index, table: ReadTable) -> ArraysReader:
        """Map the files and tables."""
        return ArraysReader({name: _open(name, where, table) for name, where in self.fields.items()})


def _open(name: str, where: str | TableRef, table: ReadTable) -> np.ndarray:
    if isinstance(where, TableRef):
        return table(where)
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


def _row_spec(name: str, array: np.ndarray) -> FieldSpec:
    try:
        return FieldSpec.like(array.shape[1:], array.dtype)
    except DatasetError as error:
        raise DatasetError(f"field {name!r}: {error}") from None


class ArraysReader:
    """Gathers rows with one `numpy.take` into the batch."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
            raise DatasetError(f"arrays of different lengths ({told}): expected one row for each sample in all")
        # A plain ndarray: memmap's subclass machinery would run at every access.
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
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
        if array.dtype == out.dtype and array.flags.c_contiguous:  # of any other, take() copies the whole
            # mode="clip": with the default, NumPy gathers into a buffer first. The ids are in range.
            np.take(array, ids, axis=0, out=out, mode="clip")
        else:
            out[...] = array[ids]

    def describe(self, sample_id: int) -> str:
        """Return the row's number."""
        return f"row {sample_id}"
