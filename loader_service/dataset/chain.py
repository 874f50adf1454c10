"""The declared transforms -> the steps that run, for any samples of one source.

    columns    fields that need no other field: the rows of a task are made field by field, see columns.py
    samples    all other fields: one sample after the other, while it is in the cache

Nothing is collected and stacked: the last step of each field writes into its row. The first step from which on
shape and dtype stay as they are gets the row to write into, and the steps after it work there, in place.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.cache.samples import CachedSamples
from loader_service.dataset.collate import put, put_part
from loader_service.dataset.columns import Column, column_of
from loader_service.dataset.decoders import Decoders, Decoding, shrunk_pictures
from loader_service.dataset.draws import DrawKeys, uniforms_of_steps
from loader_service.dataset.kinds import AnyTransform
from loader_service.dataset.naming import Naming
from loader_service.dataset.pinned import SOURCE, Pinned
from loader_service.dataset.purity import states
from loader_service.dataset.row_wise import Columns, RowWise, Samples
from loader_service.dataset.sequences import Sequences
from loader_service.dataset.sources.arrays import ArraysReader
from loader_service.dataset.sources.pack import PackReader
from loader_service.dataset.sources.python import PythonReader
from loader_service.dataset.sources.source import Reader
from loader_service.dataset.transforms.map import SampleFunction, globals_kept, seed_globals
from loader_service.dataset.transforms.transform import FieldTransform, SampleTransform
from loader_service.dataset.trial import Trial
from loader_service.dataset.units import (
    Turn,
    Unit,
    WholeSample,
    declared,
    fused,
    groups_of,
    maps_rows,
)
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.layout import lengths_of
from loader_service.protocol.spec import Spec

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StepTold:
    """What is told of one transform."""

    transform: AnyTransform
    spec: Spec  # of a sample after it
    many_rows: bool  # it takes all rows of a task at once
    into_row: bool  # it writes into the row, where its value may lie already
    random: bool  # random numbers enter, or may
    kept: bool  # what it makes of a sample is kept in a cache
    fused: tuple[int, ...]  # numbers of the steps that are done as one with it, itself among them
    decoding: Decoding | None  # what it decodes of a JPEG, if it is the first step to act on it


@dataclass(frozen=True)
class ChainTold:
    """What is told of a chain: for people, who want to know what will run."""

    source: Spec
    steps: tuple[StepTold, ...]
    columns: tuple[str, ...]  # fields that are read for all rows of a task at once
    read_into_row: tuple[str, ...]  # those of them that are read straight into the row
    by_user: bool  # a user's source fills the rows itself


class Chain:
    """Makes rows out of a source's samples: first it finds out what they look like, then `compile` says how."""

    def __init__(
        self,
        reader: Reader,
        transforms: tuple[AnyTransform, ...],
        keys: DrawKeys,
        first: int,
        cached: CachedSamples | None = None,
    ) -> None:
        """Find out what the samples look like after each transform; a user's function is run once to find its.

        Args:
            keys: Of all random numbers.
            first: The sample that tells what all others look like.
            cached: What some of the transforms have made of samples already.
        Raises:
            SampleError: If it cannot be made.
        """
        self._reader, self._transforms, self._keys, self._first = reader, transforms, keys, first
        self._cached = cached
        self._naming = partial(Naming, reader.describe)  # no method: what is handed it would keep this chain alive
        self._source = Pinned(reader, keys)
        counts = {k: step.draws for k, step in enumerate(transforms) if isinstance(step, FieldTransform)}
        self._draw = partial(uniforms_of_steps, counts, keys)
        with self._naming(first), globals_kept():
            self._source.seed(0, 0)
            self._source_spec = reader.model(first)
        self._groups = groups_of(transforms)
        self._trial = Trial(self._source, transforms, self._groups, keys, self._draw, first, self._source_spec)
        kept = len(transforms) if cached is None else cached.after
        self._all_units = fused(transforms, self._groups, kept=kept, shrunk=shrunk_pictures(reader))
        self._decoders = Decoders(reader, self._source_spec, self._all_units, kept)
        self._specs: list[Spec] = [self._source_spec]
        for number, transform in enumerate(transforms):
            if isinstance(transform, SampleFunction):
                transform.load()
                with globals_kept():
                    sample = self._trial.sample(0, number + 1)
                self._specs.append(transform.spec_of(sample))
            else:
                self._specs.append(declared(transform, self._groups[number], self._specs[-1]))
        self.spec = self._specs[-1]  # of a sample after all transforms
        self.runs_user_code = self._source.by_user or any(isinstance(step, SampleFunction) for step in transforms)
        self.ragged: tuple[str, ...] = ()  # fields whose rows `sequences` finds where they are
        if cached is not None:
            self._refuse_draws(cached.after)

    @property
    def source_spec(self) -> Spec:
        """What a sample is before all transforms."""
        return self._source_spec

    @property
    def copies(self) -> bool:
        """Whether all that is done to rows is to copy them out of arrays in memory, some changed on the way."""
        in_arrays = isinstance(self._reader, ArraysReader | PackReader)
        return in_arrays and all(column.together for column in self._columns) and len(self._columns) == len(self.spec)

    def first_sample(self) -> Mapping[str, Any]:
        """Return the first sample after all transforms."""
        return self._trial.sample(0, steps=len(self._transforms))

    def compile(self, varying: Collection[str], *, staged: bool) -> None:
        """Decide how rows are made.

        Args:
            varying: Fields whose rows differ in length.
            staged: Whether batches are made out of their rows when these are there.
        """
        self._varying = varying
        self._reads_rows = (
            not self._transforms
            and self._cached is None
            and not staged
            and isinstance(self._reader, PythonReader)
            and self._reader.reads_rows
        )
        mapped = max((k for k, step in enumerate(self._transforms) if isinstance(step, SampleTransform)), default=-1)
        cached = 0 if self._cached is None else self._cached.after
        units = [unit for unit in self._all_units if unit.numbers[0] >= cached]
        for unit in units:
            if isinstance(unit, WholeSample):
                unit.expected = self._specs[unit.numbers[0] + 1]
        columns: list[Column] = []
        for field, spec in self.spec.items():
            own = [unit for unit in units if field in unit.fields and unit.numbers[0] > mapped]
            self._find_rows(field, own)
            source = self._source_spec.get(field)
            if mapped < 0 and self._cached is None and source is not None:
                about = field, self._reader, own, self._naming
                column = column_of(*about, source=source, spec=spec, varying=varying)
                columns += [] if column is None else [column]
        self._columns = tuple(columns)
        self.ragged = tuple(column.field for column in columns if column.field in varying)
        done = {column.field for column in columns}
        self._sample_fields = tuple(field for field in self.spec if field not in done)
        self._read_fields = frozenset(self._source_spec if mapped >= 0 else self._sample_fields)
        self._units = [unit for unit in units if not unit.fields or not done.issuperset(unit.fields)]

        self._row_wise = RowWise(self._units, self._naming) if any(map(maps_rows, self._units)) else None
        fixed = not any(spec.varies for spec in self._source_spec.values())
        self._gathers = self._cached is None and fixed and self._reader.columns.issuperset(self._source_spec)

    def make_rows(self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64], out: Rows) -> None:
        """Make rows of the samples that stand at these positions of an epoch.

        Args:
            out: What to write to, of each field; of a ragged one that is left out, nothing is made.
        """
        if self._reads_rows:
            self._fill_by_user(ids, out)
            return
        turn = Turn(epoch, self._draw(epoch, positions), self._keys)
        for column in self._columns:
            if column.field in out:
                column.fill(ids, turn, out)
        if self._row_wise is not None:
            self._fill_row_wise(self._row_wise, ids, positions, turn, out)
        elif self._sample_fields:
            self._fill_samples(ids, positions, turn, out)

    def original(self, sample_id: int, epoch: int, position: int) -> dict[str, Any]:
        """Return a sample as the source has it, when it stands at a position of an epoch."""
        with self._naming(sample_id):
            return self._source.read(epoch, sample_id, position, frozenset(self._source_spec))

    def sequences(self, field: str, ids: NDArray[np.int64]) -> Sequences:
        """Return rows of different lengths where they are; that of id -1 is empty."""
        assert isinstance(self._reader, ArraysReader), "no other source has such rows"
        return self._reader.sequences(field, ids)

    def describe(self) -> ChainTold:
        """Return how rows are made, as `compile` has decided."""
        by_column = {step: writes for column in self._columns for step, writes in column.writing.items()}
        together = {step for column in self._columns if column.together for step in column.writing}
        many = together if self._row_wise is None else self._row_wise.many_rows(self._gathers)
        viewed = [unit for column in self._columns if not column.together for unit in column.units]
        unit_of = {number: unit for unit in (*self._units, *viewed) for number in unit.numbers}
        steps = []
        for number, transform in enumerate(self._transforms):
            unit = unit_of.get(number)
            random = transform.is_random or isinstance(transform, SampleFunction)
            kept = self._cached is not None and number < self._cached.after
            writes = unit is not None and unit.writes and self._row_wise is None
            steps.append(
                StepTold(
                    transform,
                    self._specs[number + 1],
                    many_rows=number in many,
                    into_row=by_column.get(number, writes),
                    random=random and not kept,
                    kept=kept,
                    fused=() if unit is None or len(unit.numbers) == 1 else unit.numbers,
                    decoding=self._decoders.told(unit, number),
                )
            )
        return ChainTold(
            source=self._source_spec,
            steps=tuple(steps),
            columns=tuple(self.spec)
            if len(many) == len(steps) > len(by_column)
            else tuple(each.field for each in self._columns if each.together),
            read_into_row=tuple(column.field for column in self._columns if column.read_into_row),
            by_user=self._reads_rows,
        )

    def doubts(self, some_ids: NDArray[np.int64]) -> list[str]:
        """Return what seems wrong with the user's code, in sentences: it is run some times more to find out."""
        return self._trial.doubts(some_ids, self._specs, self._fill_by_user if self._reads_rows else None)

    # -- what is kept ----------------------------------------------------------------------------------------

    def _prepare(self, sample_id: int, steps: int | None = None) -> dict[str, Any]:
        """Make a sample as far as it is kept; or after so many transforms."""
        assert self._cached is not None, "called only where something is kept"
        sample = self._read(0, sample_id, 0, frozenset(self._source_spec))
        nothing = dict.fromkeys(range(len(self._transforms)), np.empty((1, 0)))  # no step before it draws
        return self._trial.after(sample, self._cached.after if steps is None else steps, 0, nothing)

    def _refuse_draws(self, after: int) -> None:
        """Refuse a user's code that draws random numbers, if what it makes is to be kept: it would be so for ever."""
        code: list[tuple[int, str, bool]] = [(SOURCE, "the source", False)] if self._source.by_user else []
        for number, transform in enumerate(self._transforms[:after]):
            if isinstance(transform, SampleFunction):
                code.append((number, transform.name, transform.takes_rng))
        for number, name, draws in code:
            with self._naming(self._first), globals_kept():
                self._prepare(self._first, number + 1)
                left = states()
                seed_globals(self._keys.of(0, number), 0)
                draws = draws or left != states()
            if draws:
                raise DatasetError(
                    f"cache: {name} draws random numbers, and what it makes would be kept for ever: put .cache() first"
                )

    # -- compiling -------------------------------------------------------------------------------------------

    def _find_rows(self, field: str, units: list[Unit]) -> None:
        """Let units write into the row of a field: those from the last on that changes its spec."""
        into_row = field not in self._varying
        for unit in reversed(units):
            into_row = into_row and self._specs[unit.numbers[-1] + 1][field] == self.spec[field]
            if into_row:
                unit.into_row |= {field}
            into_row = into_row and unit.in_place

    # -- rows ------------------------------------------------------------------------------------------------

    def _fill_samples(self, ids: NDArray[np.int64], positions: NDArray[np.int64], turn: Turn, out: Rows) -> None:
        units = self._units
        targets = [(field, out[field]) for field in self._sample_fields]
        try:
            for turn.row, sample_id in enumerate(ids.tolist()):
                turn.position = int(positions[turn.row])
                rows = {field: room[turn.row, ...] for field, room in targets}  # without the dots, numbers were copies
                if self._cached is None:
                    sample = self._read(turn.epoch, sample_id, turn.position, self._read_fields)
                else:
                    sample = self._cached.get(sample_id, self._prepare)
                for unit in units:
                    sample = unit.apply(sample, turn, rows)
                self._collate(sample, rows, out, turn.row)
        except Exception:
            with self._naming(int(ids[turn.row])):
                raise

    def _fill_row_wise(
        self,
        steps: RowWise,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        turn: Turn,
        out: Rows,
    ) -> None:
        rows: Samples | Columns
        if self._gathers:
            specs = self._source_spec.items()
            rows = {name: np.empty((len(ids), *field.room), field.dtype) for name, field in specs}
            for name, column in rows.items():
                self._reader.read_column(name, ids, column)
        else:
            rows = []
            for sample_id, position in zip(ids.tolist(), positions.tolist(), strict=True):
                with self._naming(sample_id):
                    rows.append(
                        self._read(turn.epoch, sample_id, position, self._read_fields)
                        if self._cached is None
                        else dict(self._cached.get(sample_id, self._prepare))
                    )
        rows = steps.run(rows, ids, positions, turn)
        if isinstance(rows, dict) and not self._varying:
            for name in self._sample_fields:
                put(out[name], rows[name], name)
            return
        for row, sample_id in enumerate(ids.tolist()):
            with self._naming(sample_id):
                sample = (
                    {name: column[row, ...] for name, column in rows.items()} if isinstance(rows, dict) else rows[row]
                )
                self._collate(sample, {name: out[name][row, ...] for name in self._sample_fields}, out, row)

    def _read(self, epoch: int, sample_id: int, position: int, fields: frozenset[str]) -> dict[str, Any]:
        """Read one sample; pictures which a step decodes itself are left encoded."""
        sample = self._decoders.read(sample_id, fields)
        return self._source.read(epoch, sample_id, position, fields) if sample is None else sample

    def _collate(self, sample: dict[str, Any], rows: dict[str, np.ndarray], out: Rows, number: int) -> None:
        for field, row in rows.items():
            if field not in sample:
                raise SpecMismatch(f"field {field!r} is missing; the sample has {list(sample)}")
            if field in self._varying:
                out[lengths_of(field)][number] = put_part(row, sample[field], field)
            elif sample[field] is not row:
                put(row, sample[field], field)

    def _fill_by_user(self, ids: NDArray[np.int64], out: Rows) -> None:
        assert isinstance(self._reader, PythonReader), "only a user's source fills rows itself"
        rows = {field: out[field] for field in self._source_spec}
        try:
            # A copy: the ids are a view of the order itself, and may be sorted in there, as h5py wants them.
            self._reader.read_rows(ids.copy(), rows)
        except Exception as error:
            for row, sample_id in enumerate(ids.tolist()):
                with self._naming(sample_id):
                    self._reader.read_rows(
                        ids[row : row + 1].copy(), {name: rows[name][row : row + 1] for name in rows}
                    )
            if len(np.unique(ids)) < len(ids):
                return  # a sample that replaces another is here twice, which h5py cannot read at once; now it was
            named = SampleError(f"samples {ids[0]} .. {ids[-1]}, read_rows: {type(error).__name__}: {error}")
            named.add_note(traceback.format_exc())
            raise named from error
