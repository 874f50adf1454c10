"""Rows of different lengths in one array: the entries of all rows, one after the other, and where each row ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.protocol.layout import splits_of
from loader_service.protocol.spec import Spec


class Ragged:
    """Rows of different lengths: row i is `values[row_splits[i] : row_splits[i + 1]]`.

    >>> rows = Ragged(np.asarray([1, 2, 3]), np.asarray([0, 2, 2, 3]))
    >>> [row.tolist() for row in rows], rows.lengths.tolist()
    ([[1, 2], [], [3]], [2, 0, 1])

    Attributes:
        values: The entries of all rows, of shape (entries, *entry shape).
        row_splits: int64 (rows + 1,): where each row starts, and the last one ends.
    """

    __slots__ = ("row_splits", "values")

    def __init__(self, values: np.ndarray, row_splits: NDArray[np.int64]) -> None:
        self.values, self.row_splits = values, row_splits

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (rows,): how many entries each row has."""
        lengths: NDArray[np.int64] = np.diff(self.row_splits)
        return lengths

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        return self.values.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(rows, None, *entry shape)."""
        return (len(self), None, *self.values.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return self.values.nbytes + self.row_splits.nbytes

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def __getitem__(self, row: int) -> Any:
        """Return one row."""
        row = range(len(self))[row]
        return self.values[self.row_splits[row] : self.row_splits[row + 1]]

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dtype} {self.shape}>"


class Text(Ragged):
    """Strings: their UTF-8 bytes, one after the other, and where each one ends.

    >>> words = Text(np.frombuffer("añb".encode(), "uint8"), np.asarray([0, 3, 4]))
    >>> words[0], list(words)
    ('añ', ['añ', 'b'])
    """

    __slots__ = ()

    def __getitem__(self, row: int) -> str:
        """Return one string."""
        return str(super().__getitem__(row).tobytes(), "utf-8")

    def encoded(self) -> list[bytes]:
        """Return all of them as bytes."""
        data, splits = self.values.tobytes(), self.row_splits.tolist()
        return [data[start:stop] for start, stop in pairwise(splits)]


FORMS = {"ragged": Ragged, "text": Text}


def assembled(arrays: dict[str, np.ndarray], spec: Spec) -> dict[str, Any]:
    """Return the arrays of a batch with those that belong to one field put together; others stay as they are."""
    fields: dict[str, Any] = dict(arrays)
    for name, field in spec.items():
        if field.form != "dense":
            fields[name] = FORMS[field.form](arrays[name], fields.pop(splits_of(name)))
    return fields
