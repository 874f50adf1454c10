"""Rows of a dataset that is put together of others: each part makes those that are its own, as a dataset by itself.

What is done with all samples after they were put together is done by each part with its own: its chain goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.selection.selection import Selection
from loader_service.dataset.sources.joined import JoinedReader, Leaf
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ledger import error_about
from loader_service.protocol.spec import FieldSpec, Spec, describe

if TYPE_CHECKING:  # which has parts
    from loader_service.dataset.chain import ChainTold
    from loader_service.dataset.kinds import AnySource
    from loader_service.dataset.plan import Plan

BLOCK = 1 << 16  # samples that are looked at together


class Parts:
    """The plans of all parts that have a sample in the selection."""

    def __init__(
        self, reader: JoinedReader, pool: Selection, bad: Collection[int], open_part: Callable[[Leaf, int], Plan]
    ) -> None:
        """Open each part.

        Args:
            pool: All samples that are selected.
            bad: Those that are replaced.
            open_part: Opens one, whose samples look like the one with the given id.
        Raises:
            DatasetError: If one cannot be opened, or its rows are not like those of the others.
        """
        self._starts = np.asarray([leaf.start for leaf in reader.leaves], np.int64)
        self.plans: dict[int, Plan] = {}
        for number, first in sorted(self._firsts(pool, bad).items()):
            leaf = reader.leaves[number]
            with _numbered(leaf.start):
                self.plans[number] = open_part(leaf, first - leaf.start)
        specs = {number: plan.row_spec for number, plan in self.plans.items()}
        self._first = min(specs)
        self.spec: Spec = specs[self._first]
        self.runs_user_code = any(plan.runs_user_code for plan in self.plans.values())
        self.ragged: tuple[str, ...] = ()  # each part writes its rows to the stage
        for number, spec in specs.items():
            if not _alike(spec, self.spec):
                raise DatasetError(
                    f"the samples of parts differ: part {number} has {_differing(spec, self.spec)}, part {self._first} "
                    f"{_differing(self.spec, spec)}. Let the transforms of each part make them alike"
                )
            self.spec = {name: _longer(field, spec[name]) for name, field in self.spec.items()}

    def compile(self, varying: Collection[str], *, staged: bool) -> None:
        """Each part has decided for itself how its rows are made."""

    def sequences(self, field: str, ids: NDArray[np.int64]) -> NoReturn:
        """There are none: see `ragged`."""
        raise NotImplementedError(f"rows of {field!r} are on the stage")

    def doubts(self, some_ids: NDArray[np.int64]) -> list[str]:
        """Return what seems wrong with the user's code of any part, in sentences."""
        return list(dict.fromkeys(told for plan in self.plans.values() for told in plan.doubts()))

    def first_sample(self) -> Mapping[str, Any]:
        """Return the first sample of the first part."""
        return self.plans[self._first].first_sample()

    def chains(self) -> list[tuple[int, AnySource, ChainTold]]:
        """Return how each part makes its rows: as `Plan.chains`."""
        return [
            (int(self._starts[number]) + start, source, told)
            for number, plan in self.plans.items()
            for start, source, told in plan.chains()
        ]

    def make_rows(
        self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64], out: Mapping[str, np.ndarray]
    ) -> None:
        """Have each part make its rows: where they will be read, if they stand together there; else beside it."""
        owners = self._owners(ids)
        for number in np.unique(owners).tolist():
            plan, start = self.plans[number], int(self._starts[number])
            rows = np.flatnonzero(owners == number)
            together = rows[-1] + 1 - rows[0] == len(rows)
            own = {
                name: out[name][rows[0] : rows[-1] + 1]
                if together
                else np.empty((len(rows), *out[name].shape[1:]), out[name].dtype)
                for name in plan.row_arrays
            }
            with _numbered(start):
                plan.make_rows(epoch, ids[rows] - start, positions[rows], own)
            if not together:
                for name, values in own.items():
                    out[name][rows] = values

    def original(self, sample_id: int, epoch: int, position: int) -> dict[str, Any]:
        """Return a sample as the source of its part has it."""
        number = int(self._owners(np.asarray([sample_id], np.int64))[0])
        start = int(self._starts[number])
        with _numbered(start):
            return self.plans[number].original(sample_id - start, epoch, position)

    def _owners(self, ids: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.searchsorted(self._starts, ids, side="right") - 1

    def _firsts(self, pool: Selection, bad: Collection[int]) -> dict[int, int]:
        """Return the first sample of each part that is selected, and not known to be bad."""
        firsts: dict[int, int] = {}
        known = np.fromiter(bad, np.int64, len(bad))
        for start in range(0, pool.size, BLOCK):
            ids = pool.fixed_ids(np.arange(start, min(start + BLOCK, pool.size), dtype=np.int64))
            ids = ids[~np.isin(ids, known)]
            owners, places = np.unique(self._owners(ids), return_index=True)
            firsts = {**dict(zip(owners.tolist(), ids[places].tolist(), strict=True)), **firsts}
            if len(firsts) == len(self._starts):
                break
        return firsts


@contextmanager
def _numbered(start: int) -> Iterator[None]:
    """Have errors about a sample give it the id that it has among the samples of all parts."""
    try:
        yield
    except DatasetError as error:
        bad = error.sample
        if bad is None or not start:
            raise
        told = str(error).removeprefix(f"sample {bad.id} ({bad.file}): ")
        named = error_about(start + bad.id, bad.file, told, type(error))
        for note in getattr(error, "__notes__", ()):
            named.add_note(note)
        raise named from error


def _alike(spec: Spec, other: Spec) -> bool:
    return spec.keys() == other.keys() and all(_same(field, other[name]) for name, field in spec.items())


def _same(field: FieldSpec, other: FieldSpec | None) -> bool:
    """Whether two fields are the same, but for the length of their longest row."""
    return other is not None and replace(field, most=()) == replace(other, most=())


def _longer(field: FieldSpec, other: FieldSpec) -> FieldSpec:
    """Return the field with room for the longest row of both; where one does not know it, nobody does."""
    known = bool(field.most and other.most)
    return replace(field, most=tuple(map(max, field.most, other.most)) if known else ())


def _differing(spec: Spec, other: Spec) -> str:
    """Return the fields that are not the same, or not there, in the other.

    >>> _differing({"x": FieldSpec((2,), "uint8"), "y": FieldSpec((), "int64")}, {"x": FieldSpec((2,), "float32")})
    'x: uint8 (2,), y: int64 ()'
    """
    differing = {name: field for name, field in spec.items() if not _same(field, other.get(name))}
    return describe(differing) or "none of these"
