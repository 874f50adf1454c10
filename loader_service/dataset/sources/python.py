"""A user's own source, named by import path: anything with `len(source)` and `source[i]`.

`source[i]` returns a dict of arrays, or of such dicts, or a tuple (x, y) or (x, y, weight), as datasets for PyTorch do;
Python's and NumPy's global random generators are seeded before each call. A source with a dict `spec`, field -> (shape,
dtype), is held to it; for any other, the first sample sets it. A source that defines `read_rows(ids, out)` is asked for
many rows at once, and writes each field of them into `out[field]`, of shape (len(ids), *shape): they may depend on the
ids alone, since the same row may come with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.collate import declared_spec, native, spec_of
from loader_service.dataset.objects import AnyCode, loaded
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.nesting import flat
from loader_service.protocol.spec import Spec

TUPLE = ("x", "y", "weight")  # the fields of a sample that is a tuple
EXPECTED = "a dict of arrays, or a tuple (x, y) or (x, y, weight)"


class Python(Source):
    """An object, or a class or function that makes one when it is called without arguments."""

    kind: Literal["python"] = "python"
    attr: AnyCode

    def make_index(self, table: ReadTable) -> Index:
        """Take the length as the fingerprint; the code's own hash is in the key too."""
        return {"length": np.asarray([len(self._open(table))], np.int64)}

    def reader(self, index: Index, table: ReadTable) -> PythonReader:
        """Import the source in this process."""
        return PythonReader(self._open(table), self.attr.name)

    def user_code(self) -> list[UserCode]:
        """Name the module."""
        return [self.attr] if isinstance(self.attr, UserCode) else []

    def _open(self, table: ReadTable) -> Any:
        found = loaded(self.attr, table)
        if isinstance(found, type) or not hasattr(found, "__getitem__"):
            if not callable(found):
                raise DatasetError(f"{self.attr.name!r} is {type(found).__name__}, expected len() and [i]")
            found = found()
        for method in ("__len__", "__getitem__"):
            if not hasattr(found, method):
                raise DatasetError(f"{self.attr.name!r} gave {type(found).__name__}, which has no {method}")
        if len(found) < 1:
            raise DatasetError(f"{self.attr.name!r} is empty: its length is {len(found)}")
        return found


class PythonReader:
    """Calls the user's object."""

    def __init__(self, source: Any, name: str) -> None:
        self._source, self._name = source, name
        self._length = len(source)
        self.columns: frozenset[str] = frozenset()
        self.reads_rows = hasattr(source, "read_rows")

    def __len__(self) -> int:
        return self._length

    def model(self, sample_id: int) -> Spec:
        """Return what the object declares as its `spec`; without, read the sample."""
        declared = getattr(self._source, "spec", None)
        if isinstance(declared, Mapping):
            return declared_spec(declared, self._name)
        return spec_of(self.read(sample_id, frozenset()), self._name)

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return the whole sample: a user's `source[i]` makes all of its fields at once."""
        sample = self._source[sample_id]
        if isinstance(sample, tuple) and len(sample) in (2, 3):
            sample = dict(zip(TUPLE, sample, strict=False))
        if not isinstance(sample, dict) or not sample:
            raise DatasetError(f"it is {type(sample).__name__}, expected {EXPECTED}")
        return {field: native(value) for field, value in flat(sample).items()}

    def read_rows(self, ids: NDArray[np.int64], out: dict[str, np.ndarray]) -> None:
        """Have the user's object fill many rows."""
        self._source.read_rows(ids, out)

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Never called: there are no columns."""
        raise AssertionError(f"a python source has no column {field!r}")

    def describe(self, sample_id: int) -> str:
        """Return how the sample is named in Python."""
        return f"{self._name}[{sample_id}]"
