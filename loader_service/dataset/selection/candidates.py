"""The samples that a step of a selection chooses from, read once, as they are at the source: before all transforms."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import stream_key
from loader_service.dataset.selection.selection import Numbers, Selection
from loader_service.dataset.sources.source import Reader
from loader_service.dataset.transforms.map import seed_globals
from loader_service.protocol.errors import DatasetError, LoaderError, SampleError, nearest
from loader_service.protocol.ledger import error_about, sample_of
from loader_service.protocol.spec import Spec

FIRST_TRIES = 10  # samples of a source that may fail, until one says which fields there are
SCAN = stream_key("scan")  # names the random numbers that a user's code draws here


@dataclass(frozen=True)
class Group:
    """Candidates that one reader reads."""

    reader: Reader
    start: int  # the id of its first sample
    numbers: Numbers  # of the candidates, among all of them
    ids: Numbers  # as the reader counts them

    @cached_property
    def spec(self) -> Spec:
        """The fields of the first sample that can be read."""
        failed: DatasetError | None = None
        for sample_id in self.ids[:FIRST_TRIES].tolist():
            try:
                with self.naming(sample_id):
                    seed_globals(SCAN, sample_id)
                    return self.reader.model(sample_id)
            except DatasetError as error:
                failed = error
        assert failed is not None, "a group has a sample"
        raise failed

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Read one sample; an error names it."""
        with self.naming(sample_id):
            seed_globals(SCAN, sample_id)
            return self.reader.read(sample_id, fields)

    @contextmanager
    def naming(self, sample_id: int) -> Iterator[None]:
        """Turn whatever is raised into an error that names the sample."""
        try:
            yield
        except Exception as error:
            if sample_of(error) is not None:
                raise
            told = str(error) if isinstance(error, LoaderError) else f"{type(error).__name__}: {error}"
            named = error_about(self.start + sample_id, self.reader.describe(sample_id), told, SampleError)
            if not isinstance(error, LoaderError):
                named.add_note("".join(traceback.format_exception(error)))
            raise named from error


@dataclass(frozen=True)
class Column:
    """One number of each candidate, and the errors of those that could not be read, by their numbers."""

    values: NDArray[Any]
    unread: dict[int, DatasetError]


class Candidates:
    """All samples that were selected so far."""

    def __init__(self, readers: Sequence[tuple[int, Reader]], selection: Selection, class_names: list[str]) -> None:
        """Look at samples.

        Args:
            readers: Those of the source, or of each one that it is put together of, with the id of its first sample.
        """
        self.ids = selection.fixed_ids(np.arange(selection.size, dtype=np.int64))
        self.of_source = sum(len(reader) for _, reader in readers)
        self.class_names = class_names
        owners = np.searchsorted([start for start, _ in readers], self.ids, side="right") - 1
        self.groups = [
            Group(reader, start, own, self.ids[own] - start)
            for number, (start, reader) in enumerate(readers)
            if len(own := np.flatnonzero(owners == number))
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self, number: int) -> str:
        """Return what an error calls a candidate."""
        group = next(group for group in self.groups if number in group.numbers)
        sample_id = int(self.ids[number])
        return f"sample {sample_id} ({group.reader.describe(sample_id - group.start)})"

    def column(self, field: str, what: str) -> Column:
        """Return a field of all candidates: in one go, where the source can; else one sample after the other.

        Raises:
            DatasetError: If there is no such field, or it is not one number a sample; `what` says who asks for it.
        """
        parts, unread = [], dict[int, DatasetError]()
        for group in self.groups:
            spec = group.spec.get(field)
            if spec is None:
                raise DatasetError(f"{what}: there is no field {field!r} at the source; {nearest(field, group.spec)}")
            if spec.varies or np.prod(spec.room, dtype=np.int64) != 1:
                raise DatasetError(f"{what}: field {field!r} is {spec} at the source, expected one number a sample")
            values = np.zeros((len(group.ids), *spec.room), spec.dtype)
            if field in group.reader.columns:
                group.reader.read_column(field, group.ids, values)
            else:
                unread |= self._read_each(group, field, values)
            parts.append(values.reshape(-1))
        values = np.empty(len(self), np.result_type(*parts))
        for group, part in zip(self.groups, parts, strict=True):
            values[group.numbers] = part
        return Column(values, unread)

    def labels(self, field: str, what: str) -> NDArray[Any]:
        """Return a field by which candidates can be told apart.

        Raises:
            DatasetError: As `column`; and if one cannot be read, or is NaN.
        """
        column = self.column(field, what)
        for error in column.unread.values():
            raise error
        missing = np.isnan(column.values)
        if missing.any():
            first = self.describe(int(np.argmax(missing)))
            raise DatasetError(
                f"{what}: field {field!r} is NaN in {np.count_nonzero(missing):,} of {len(self):,} samples, the first "
                f"of them {first}: give them a label, or leave them out with .filter(...)"
            )
        return column.values

    def _read_each(self, group: Group, field: str, values: np.ndarray) -> dict[int, DatasetError]:
        unread = {}
        for place, (number, sample_id) in enumerate(zip(group.numbers.tolist(), group.ids.tolist(), strict=True)):
            try:
                with group.naming(sample_id):
                    values[place] = group.read(sample_id, frozenset({field}))[field]
            except DatasetError as error:
                unread[number] = error
        return unread
