"""One array or several, which are alike but for their lengths: recordings, volumes. In memory, or in `.npy` files.

Files are mapped when something of them is read, a limited number at a time. Shapes are in the index: no process but
the one that makes it opens a file only to learn how long it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.collate import native
from loader_service.dataset.sources.arrays import map_array
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec
from loader_service.protocol.tables import PackedStrings, TableRef, pack_strings

MAPPED = 256  # files of a field that are mapped at a time in one process: each holds a descriptor
INLINE = 2**14  # characters of paths that a declaration holds itself; beyond, they travel as a table


def _no_other(value: Any) -> Any:
    """Refuse in one sentence what is none of a union's types; each of them would have one of its own."""
    if not isinstance(value, str | TableRef | dict) and not (
        isinstance(value, list | tuple) and all(isinstance(path, str) for path in value)
    ):
        raise ValueError("expected the path of a .npy file, or a list of paths")
    return value


# One file, several files, one array in memory; a dict is several of them, packed into tables: paths, or arrays.
Where = Annotated[
    str | tuple[str, ...] | SkipJsonSchema[TableRef] | SkipJsonSchema[dict[str, TableRef]], BeforeValidator(_no_other)
]


def declare_parts(what: str, value: Any, keep: Callable[[np.ndarray], TableRef]) -> Where:
    """Return how a declaration names what a user gave: a path, an array, or a list of either.

    Raises:
        DatasetError: If it is none of these.
    """
    if isinstance(value, str | os.PathLike):
        return _absolute(value)
    if isinstance(value, Sequence) and any(isinstance(part, str | os.PathLike | np.ndarray) for part in value):
        if all(isinstance(part, str | os.PathLike) for part in value):
            paths = tuple(_absolute(part) for part in value)
            if sum(map(len, paths)) <= INLINE:
                return paths
            return {name: keep(array) for name, array in pack_strings(list(paths)).items()}
        if not all(isinstance(part, np.ndarray) for part in value):
            raise DatasetError(f"{what} is a list of several kinds of things: expected paths only, or arrays only")
        arrays = [_numbers(f"{what}[{number}]", part) for number, part in enumerate(value)]
        for number, array in enumerate(arrays):
            _check_alike(f"{what}[{number}]", array, f"{what}[0]", arrays[0])
        return {
            "numbers": keep(np.concatenate([array.reshape(-1) for array in arrays])),
            "shapes": keep(np.asarray([array.shape for array in arrays], np.int64)),
        }
    try:
        return keep(_numbers(what, native(value)))
    except ValueError as error:
        raise DatasetError(f"{what} cannot be made an array: {error}") from error


def _numbers(what: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 0 or array.dtype.kind not in "biufc":
        raise DatasetError(f"{what} is {array.dtype} {array.shape}, expected an array of numbers")
    return np.ascontiguousarray(native(array))


def _check_alike(what: str, array: np.ndarray, first: str, model: np.ndarray) -> None:
    if (array.ndim, array.dtype) != (model.ndim, model.dtype):
        raise DatasetError(
            f"{what} is {array.dtype} {array.shape}, and {first} {model.dtype} {model.shape}: expected one dtype, and "
            "one number of axes"
        )


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute())


def _paths(where: Where, table: ReadTable) -> Sequence[str] | None:
    """Return the files; None where the arrays are in memory."""
    if isinstance(where, dict) and "offsets" in where:
        packed = PackedStrings({name: table(ref) for name, ref in where.items()})
        return [os.fsdecode(packed[number]) for number in range(len(packed))]
    if isinstance(where, str):
        return [where]
    return where if isinstance(where, tuple) else None


def index_parts(field: str, where: Where, table: ReadTable) -> Index:
    """Return the shapes of all parts, int64 (parts, axes); and of files what tells that they have changed.

    Raises:
        DatasetError: If a file is missing, no array, or unlike the first one.
    """
    paths = _paths(where, table)
    if paths is None:
        return {"shapes": table(where["shapes"]) if isinstance(where, dict) else np.asarray([_shape(where)], np.int64)}
    if not paths:
        raise DatasetError(f"field {field!r}: the list of files is empty")
    arrays: list[np.ndarray] = []
    stats: list[os.stat_result] = []
    shapes = []
    for path in paths:
        if not Path(path).is_file():
            raise DatasetError(f"field {field!r}: array file {path!r} does not exist")
        stats.append(Path(path).stat())
        array = map_array(field, path)
        arrays = arrays or [array]
        _check_alike(f"field {field!r}: {path!r}", array, repr(paths[0]), arrays[0])
        shapes.append(array.shape)
    return {
        "shapes": np.asarray(shapes, np.int64),
        "files": np.asarray([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64),
    }


def _shape(where: Where) -> tuple[int, ...]:
    assert isinstance(where, TableRef), "one array in memory"
    return where.shape


class Parts:
    """The arrays of one field in one process, each as it is: `parts[2]`."""

    def __init__(self, field: str, where: Where, index: Index, table: ReadTable) -> None:
        self.field = field
        self.shapes = index["shapes"]
        self._paths = _paths(where, table)
        if self._paths is not None:
            self._open: Callable[[int], np.ndarray] = lru_cache(MAPPED)(self._mapped)
        elif isinstance(where, dict):
            self._numbers = table(where["numbers"])
            self._ends = np.cumsum(self.shapes.prod(axis=1))
            self._open = self._cut
        else:
            assert isinstance(where, TableRef), "one array in memory"
            self._open = [table(where)].__getitem__
        self.dtype = self[0].dtype

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._open(number)

    def _mapped(self, number: int) -> np.ndarray:
        assert self._paths is not None, "only files are mapped"
        # A plain ndarray: memmap's subclass machinery would run at every access.
        return np.asarray(map_array(self.field, self._paths[number]))

    def _cut(self, number: int) -> np.ndarray:
        shape, end = self.shapes[number], int(self._ends[number])
        return self._numbers[end - int(shape.prod()) : end].reshape(shape)

    def path(self, number: int) -> str:
        """Return the file of a part; nothing where it is in memory."""
        return self._paths[number] if self._paths is not None else ""

    def spec(self, shape: tuple[int, ...]) -> FieldSpec:
        """Return the spec of a piece of these arrays.

        Raises:
            DatasetError: If they hold anything but numbers.
        """
        try:
            return FieldSpec.like(tuple(int(size) for size in shape), self.dtype)
        except DatasetError as error:
            raise DatasetError(f"field {self.field!r}: {error}") from None
