"""The declared chain -> the steps that run, for any rows of any batch.

    columns    fields that the source reads for many samples at once, if all their transforms are vectorised:
               one read into the rows of a task, then each transform over all of them
    samples    all other fields: one sample after the other, while it is in the cache

    finish     what can be done only when all rows of a batch are there (finish/): they are on a stage until then

Nothing is collected and stacked: the last step of each field writes into its row. The first step from which on
shape and dtype stay as they are gets the row to write into, and the steps after it work there, in place.

`Plan.fill` is a pure function of (n, start, stop) and of the ledger: order and selection give the sample ids, those
that cannot be made are replaced (bad_samples.py), and random numbers depend on (seed, epoch, position). `compute` and
every worker run this same code; how rows are cut into tasks cannot be seen in the bytes.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.bad_samples import BadSamples
from loader_service.dataset.buckets import BucketOrder, lengths_of_samples
from loader_service.dataset.collate import put, put_part
from loader_service.dataset.declaration import Batch, Declaration
from loader_service.dataset.draws import stream_key, uniforms
from loader_service.dataset.finish.finisher import Finisher
from loader_service.dataset.finish.step import Lengths, Room
from loader_service.dataset.naming import Naming
from loader_service.dataset.order import OrderCache
from loader_service.dataset.parts import Parts
from loader_service.dataset.purity import doubts, same
from loader_service.dataset.selection.opening import make_index, select
from loader_service.dataset.selection.runs import Skip
from loader_service.dataset.sources.arrays import ArraysReader
from loader_service.dataset.sources.generator import GeneratorReader
from loader_service.dataset.sources.joined import JoinedReader, Leaf
from loader_service.dataset.sources.python import PythonReader
from loader_service.dataset.sources.source import Index, Reader, ReadTable, as_sub_index, sub_index
from loader_service.dataset.transforms.map import Map, UserFunction, globals_kept, seed_globals
from loader_service.dataset.transforms.transform import FieldTransform, SampleTransform
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.layout import IDS, IDS_SPEC, arrays_of, lengths_of
from loader_service.protocol.ledger import ATTEMPTS, Ledger, error_about
from loader_service.protocol.nesting import SEPARATOR
from loader_service.protocol.shard import WHOLE, Shard
from loader_service.protocol.spec import DatasetInfo, FieldSpec, Spec
from loader_service.protocol.tables import TableRef

BUCKETS = "buckets"  # what stands under this name in the index
SOURCE = -1  # the number of the source's random stream, among those of the transforms
FINISH = -2  # of the first finish step; the others count down
FIRST_TRIES = 10  # samples that may fail when a dataset is opened; if more do, it is not for their own sake
WEIGHT = "weight"  # float32 (): what `remainder="pad"` adds; 0 in padding rows
Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """One transform, where it stands in the chain, and whether its result is written into the row."""

    number: int
    transform: FieldTransform
    into_row: bool


@dataclass(frozen=True)
class Column:
    """A field that is read and transformed for all rows of a task at once."""

    field: str
    source_spec: FieldSpec
    steps: tuple[Step, ...]
    read_into_row: bool


class Plan:
    """An opened dataset in one process: what it looks like, and how any of its rows are made."""

    def __init__(
        self,
        declaration: Declaration,
        table: ReadTable,
        index: Index | None = None,
        replaced: Iterable[int] | None = None,
        blame: str = "",
    ) -> None:
        """Open a dataset.

        Args:
            index: What the first who opened it has listed.
            replaced: Samples that others have found to be bad, and who alone decide; None to look into the ledger's
                file, and to decide here.
            blame: What is said of the first sample, if it is held to be bad: it is not touched.
        """
        if declaration.batch is None:
            raise DatasetError("the dataset has no batch size: add .batch(size), for example .batch(64)")
        if declaration.source.live and (steps := declaration.steps_by_number()):
            raise DatasetError(f"{declaration.source.kind}: live samples have no numbers: leave .{steps[0]}() out")
        self.declaration = declaration
        functions = [step for step in (*declaration.transforms, *declaration.finish) if isinstance(step, UserFunction)]
        for function in functions:
            function.bind(table)
        self._has_functions = bool(functions)
        try:
            self.index = make_index(declaration, table) if index is None else index
            self._reader: Reader = declaration.source.reader(self.index, table)
            self._selection = select(declaration, self._reader, self.index, declaration.seed)
            if index is None:
                self.index |= self._sort_into_buckets(table)
        except OSError as error:
            raise DatasetError(f"the source cannot be opened: {error}") from error
        self.index_refs = {name: TableRef.of(array) for name, array in self.index.items()}
        content, code = {name: ref.table for name, ref in self.index_refs.items()}, declaration.hashed_code()
        self.key, self.parts = declaration.key(content, code), declaration.parts(content, code)
        self.class_names = declaration.source.class_names(self.index)
        self.samples = self._selection.size  # of an epoch
        self.batch_size = declaration.batch.size
        self.shuffled = declaration.shuffle is not None or self._selection.draws
        seed = declaration.seed if self.shuffled else None
        if declaration.bucket_by_length is None:
            self.batches_per_epoch, self.short = self._count_batches()
            self._order = OrderCache(self.samples, seed, self._selection.ids)
        else:
            order = BucketOrder(sub_index(self.index, BUCKETS), self.batch_size, seed, self._remainder)
            self.batches_per_epoch, self.short = order.batches, order.short
            positions = order.batches * self.batch_size
            self._order = OrderCache(positions, seed, self._selection.ids, order.numbers)
        self._draw_keys: dict[tuple[int, int], int] = {}
        self._seeds_source = isinstance(self._reader, PythonReader)
        pool = self._selection.pool
        most = declaration.on_error.most_replaced(pool.size) if declaration.on_error else 0
        self._bad = BadSamples(self.key, pool, declaration.seed, most, replaced)
        self._table = table
        self._parts: Parts | None = None
        specs = self._learn(blame)
        self._finisher = Finisher(specs[-1], declaration.finish, self.batch_size, self.first_sample)
        self._compile(specs)
        varying = self._finisher.varying.items()
        self.row_spec = {**specs[-1], **{name: replace(field, form=specs[-1][name].form) for name, field in varying}}
        self.spec: dict[str, FieldSpec] = self._finisher.spec
        if IDS in self.spec:
            raise DatasetError(f"a field cannot be named {IDS!r}: each batch has its sample ids there. Rename yours.")
        self._adds_weight = declaration.batch.remainder == "pad" and WEIGHT not in self.spec
        if self._adds_weight:
            self.spec = {**self.spec, WEIGHT: FieldSpec((), "float32")}
        stage = self._finisher.stage
        self._row_specs = {
            **{name: field for name, field in self.spec.items() if name in specs[-1] and name not in stage},
            **({WEIGHT: self.spec[WEIGHT]} if self._adds_weight else {}),
            **stage,
            IDS: IDS_SPEC,
        }
        self.inputs, self.targets = default_roles(self.spec)

    @cached_property
    def info(self) -> DatasetInfo:
        """What a stream over this dataset must know."""
        return DatasetInfo(
            key=self.key,
            spec=self.spec,
            batch_size=self.batch_size,
            samples=self.samples,
            batches_per_epoch=self.batches_per_epoch,
            shuffled=self.shuffled,
            inputs=self.inputs,
            targets=self.targets,
            class_names=self.class_names,
            remainder=self._remainder,
            short=self.short,
            live=self.declaration.source.live,
            stage=self._finisher.stage,
            most_replaced=self._bad.most,
            parts=self.parts,
        )

    @property
    def ledger(self) -> Ledger:
        """Which samples are known to be bad here."""
        return self._bad.ledger

    def replace(self, ids: Iterable[int]) -> None:
        """Replace these samples, too, in all rows that are made from here on."""
        self._bad.replace(ids)

    def fill(self, n: int, start: int, stop: int, out: Rows) -> None:
        """Make the rows start .. stop - 1 of batch `n`.

        Args:
            out: Arrays as `empty_rows` makes them, of stop - start rows. Their content is taken as uninitialised.
        Raises:
            SampleError: If a sample cannot be made; it is named, with its file.
            SpecMismatch: If a sample does not fit the spec.
        """
        epoch, batch = divmod(n, self.batches_per_epoch)
        first = batch * self.batch_size + start
        filled = max(0, min(stop, self.info.samples_of(n)) - start)
        if filled < stop - start:
            self._pad(filled, out)
            out = {name: rows[:filled] for name, rows in out.items()}
        if not filled:
            return
        positions = np.arange(first, first + filled, dtype=np.int64)
        ids = self._ids(epoch, first, first + filled)
        out[IDS][...] = ids
        if self._adds_weight:
            out[WEIGHT][...] = 1
        self.make_rows(epoch, ids, positions, out)

    def make_rows(self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64], out: Rows) -> None:
        """Make rows of the samples that stand at these positions of an epoch."""
        if self._parts is not None:
            self._parts.make_rows(epoch, ids, positions, out)
            return
        if self._reads_rows:
            self._fill_by_user(ids, out)
            return
        draws = self._draw(epoch, positions)
        for column in self._columns:
            if column.field in out:
                self._fill_column(column, ids, draws, out)
        if self._sample_fields:
            self._fill_samples(epoch, ids, positions, draws, out)

    def make(self, n: int, rows: range, out: Rows, room: Room) -> None:
        """Make batch `n`, or that part of it which has these rows, in one go: what lies in memory is not staged first.

        Args:
            out: Arrays as `empty_rows` makes them.
            room: Hands out room for an array of the batch, given its name, shape and dtype.
        """
        self.fill(n, rows.start, rows.stop, {name: array for name, array in out.items() if name not in self._unstaged})
        filled: dict[str, Any] = dict(out)
        for field in self._ragged:
            assert isinstance(self._reader, ArraysReader), "no other source has such rows"
            filled[field], filled[lengths_of(field)] = self._reader.ragged_rows(field, out[IDS])
        self.finish(n, rows, filled, room)

    @property
    def row_arrays(self) -> list[str]:
        """Names of the arrays that `make_rows` writes to."""
        return [name for name in self._row_specs if name not in (IDS, WEIGHT) or name in self.row_spec]

    def empty_rows(self, count: int) -> dict[str, np.ndarray]:
        """Return uninitialised arrays for so many rows, ids included."""
        return {name: np.empty((count, *field.room), field.dtype) for name, field in self._row_specs.items()}

    def finish(self, n: int, rows: range, filled: Mapping[str, Any], room: Room) -> None:
        """Make batch `n` out of its rows, or that part of it whose rows these are.

        Args:
            filled: All of these rows, as `fill` has made them.
            room: Hands out room for an array of the batch, given its name, shape and dtype.
        """
        epoch, batch = divmod(n, self.batches_per_epoch)
        position = batch * self.batch_size + rows.start

        def key(step: int) -> int:
            return self._draw_key(epoch, FINISH - step)

        self._finisher.run(filled, room, key, position, f"batch {n}")

    def compute(self, n: int, shard: Shard = WHOLE) -> dict[str, np.ndarray]:
        """Make batch `n` here and now, ids included: the definition that every other way must equal."""
        self._bad.heed_file()
        rows = shard.of(self.info.rows(n))
        out = self.empty_rows(len(rows))
        made: dict[str, np.ndarray] = {}

        def room(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            made[name] = np.empty(shape, dtype)
            return made[name]

        with globals_kept() if self._runs_user_code else nullcontext():
            self._bad.insist(lambda: self.fill(n, rows.start, rows.stop, out))
            if self._finisher.stage:
                self.finish(n, rows, out, room)
        self._bad.write()
        made = {**out, **made}
        return {name: made[name] for name in arrays_of({**self.spec, IDS: IDS_SPEC})}

    def names(self, ids: NDArray[np.integer[Any]] | None = None) -> list[str]:
        """Return what samples are called; padding has no name."""
        samples = len(self._reader)
        ids = np.arange(samples) if ids is None else ids
        outside = ids[(ids < -1) | (ids >= samples)]
        if len(outside):
            raise DatasetError(f"sample {outside[0]} is none: ids count from 0 to {samples - 1:,}")
        return [self._reader.describe(sample_id) if sample_id >= 0 else "" for sample_id in ids.tolist()]

    def error_of(self, n: int, rows: range, row: int, told: str) -> DatasetError:
        """Return the error that names the sample in one of these rows of batch `n`, without touching it."""
        if row == len(rows):
            return SampleError(f"batch {n}, when it was made of its rows: {told}")
        epoch, batch = divmod(n, self.batches_per_epoch)
        row += rows.start
        position = batch * self.batch_size + row
        if row >= self.info.samples_of(n):
            return SampleError(f"row {row} of batch {n}, which is padding: {told}")
        (sample_id,) = self._ids(epoch, position, position + 1).tolist()
        return error_about(sample_id, self._reader.describe(sample_id), told)

    # -- samples that cannot be made -------------------------------------------------------------------------

    def _ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return which samples stand at these positions of an epoch."""
        return self._bad.apply(self._order.ids(epoch, start, stop))

    def _learn(self, blame: str) -> list[Spec]:
        """Return the specs of the source and after each transform: those of the first sample that can be made."""
        raised: Counter[int] = Counter()
        if blame and isinstance(self._reader, JoinedReader):  # each part has a first sample: which one was it?
            raise DatasetError(f"{blame}. Each part is opened with a sample of it: open them one by one to see which")
        if blame:
            first = self._bad.first
            raised[first] = ATTEMPTS
            self._bad.forgive(error_about(first, self._reader.describe(first), blame), raised)
        while True:
            try:
                specs = self._declare(self._bad.first)
                break
            except DatasetError as error:
                if len(raised) >= FIRST_TRIES:
                    raise
                self._bad.forgive(error, raised)
        self._bad.write()
        return specs

    # -- compiling -------------------------------------------------------------------------------------------

    @property
    def _remainder(self) -> Literal["keep", "drop", "pad"]:
        assert self.declaration.batch is not None, "checked when the plan was made"
        return self.declaration.batch.remainder

    def _count_batches(self) -> tuple[int, list[int]]:
        """Return how many batches an epoch has, and how many samples those of them that have too few."""
        if self.samples < self.batch_size and self._remainder != "pad":
            raise DatasetError(
                f"batch size {self.batch_size:,} is larger than the dataset ({self.samples:,} samples): "
                f'use .batch({self.samples}), or remainder="pad" to fill the one batch up with rows of weight 0'
            )
        whole, rest = divmod(self.samples, self.batch_size)
        short = [rest] if rest and self._remainder != "drop" else []
        return whole + len(short), short

    def _sort_into_buckets(self, table: ReadTable) -> Index:
        """Return what the order by length needs to know of all samples."""
        buckets = self.declaration.bucket_by_length
        if buckets is None:
            return {}
        if self._selection.draws:
            raise DatasetError("bucket_by_length needs the same samples in each epoch: what is drawn differs")
        ids = self._selection.fixed_ids(np.arange(self._selection.size, dtype=np.int64))
        return as_sub_index(BUCKETS, buckets.make_index(lengths_of_samples(buckets, self._reader, table)[ids]))

    def _declare(self, first: int) -> list[Spec]:
        """Return the spec of the source, and after each transform; a user's function is run once to find its."""
        self._first = first
        if isinstance(self._reader, JoinedReader):
            parts = self._parts = Parts(self._reader, self._selection.pool, self._bad.ids, self._open_part)
            return [parts.spec]
        with self._naming(first), globals_kept():
            self._seed_source(0, 0)
            self._source_spec = self._reader.model(first)
        specs: list[Spec] = [self._source_spec]
        chain = self.declaration.transforms
        for number, transform in enumerate(chain):
            if isinstance(transform, Map):
                transform.load()
                with globals_kept():
                    sample = self._sample(0, number + 1)
                specs.append(transform.spec_of(sample))
            else:
                specs.append(transform.declare(specs[-1]))
        return specs

    def _open_part(self, leaf: Leaf, first: int) -> Plan:
        """Open one part of several as a dataset by itself, which begins with a certain sample."""
        declaration = Declaration(
            source=leaf.source,
            transforms=(*leaf.transforms, *self.declaration.transforms),
            select=(Skip(n=first),),
            finish=tuple(step for step in self.declaration.finish if isinstance(step, Lengths)),  # how rows are written
            shuffle=self.declaration.shuffle,
            batch=Batch(size=1),
        )
        return Plan(declaration, self._table, leaf.index, replaced=())

    def doubts(self) -> list[str]:
        """Return what seems wrong with the user's code, in sentences: it is run some times more to find out."""
        found: list[str] = []
        if self._parts is not None:
            found += dict.fromkeys(told for plan in self._parts.plans.values() for told in plan.doubts())
            return found or self._finisher.doubts(self._finish_key)
        if self._seeds_source and not self._reads_rows:
            found += doubts(self._reader.describe(self._first), partial(self._sample, steps=0))
        for number, transform in enumerate(self.declaration.transforms):
            if isinstance(transform, Map) and not found:  # what comes behind it would be blamed as well
                found += doubts(f"map: {transform.function.name!r}", partial(self._sample, steps=number + 1))
        if not found:
            found += self._finisher.doubts(self._finish_key)
        if self._reads_rows and self._selection.pool.size > 1 and not self._reads_rows_alike():
            found.append(
                "read_rows makes other rows when it is asked for some at a time, or twice: how many it is asked for at "
                "once is nothing that a batch may depend on. Give your source no read_rows, or draw nothing in it"
            )
        return found

    def _finish_key(self, step: int) -> int:
        return self._draw_key(0, FINISH - step)

    def _reads_rows_alike(self) -> bool:
        ids = self._bad.apply(self._selection.pool.fixed_ids(np.arange(2, dtype=np.int64)))
        rows = [{name: np.zeros((2, *field.room), field.dtype) for name, field in self.spec.items()} for _ in "ab"]
        try:
            with globals_kept():
                self._fill_by_user(ids, rows[0])
                for row in range(2):
                    self._fill_by_user(ids[row : row + 1], {name: out[row : row + 1] for name, out in rows[1].items()})
        except DatasetError:
            return True  # a sample is bad: whoever makes it will say so
        return same(*rows)

    def first_sample(self) -> Mapping[str, Any]:
        """Return the first sample after all transforms."""
        if self._parts is not None:
            return self._parts.first_sample()
        return self._sample(0, steps=len(self.declaration.transforms))

    def _sample(self, position: int, steps: int) -> dict[str, Any]:
        """Return the first sample after `steps` transforms, with the random numbers of a position in epoch 0."""
        epoch = 0
        draws = self._draw(epoch, np.asarray([position], np.int64))
        with self._naming(self._first):
            sample = self._example(epoch, position)
            for number, transform in enumerate(self.declaration.transforms[:steps]):
                if isinstance(transform, SampleTransform):
                    sample = transform.apply(sample, self._draw_key(epoch, number), position)
                else:
                    name = transform.field
                    sample[name] = transform.apply(np.asarray(sample[name]), draws[number][0], None)
        return sample

    def _example(self, epoch: int, position: int) -> dict[str, Any]:
        """Return the first sample, to try steps with; a generator has it still to give."""
        if isinstance(self._reader, GeneratorReader):
            return self._reader.peek()
        return self._read(epoch, self._first, position, frozenset(self._source_spec))

    def _compile(self, specs: list[Spec]) -> None:
        chain = self.declaration.transforms
        self._runs_user_code = self._seeds_source or self._has_functions
        self._ragged: tuple[str, ...] = ()  # fields whose rows `make` takes from where they are
        self._unstaged: frozenset[str] = frozenset()  # what it leaves out of the stage for them
        if self._parts is not None:
            return
        varying = self._finisher.varying
        self._reads_rows = (
            not chain
            and not self._finisher.stage
            and isinstance(self._reader, PythonReader)
            and self._reader.reads_rows
        )
        mapped = max((number for number, step in enumerate(chain) if isinstance(step, SampleTransform)), default=-1)
        steps: dict[int, Step] = {}
        columns: list[Column] = []
        for field in specs[-1]:
            numbers = [k for k, step in enumerate(chain) if isinstance(step, FieldTransform) and step.field == field]
            own = self._steps_of(field, [k for k in numbers if k > mapped], specs)
            steps |= own
            source = self._source_spec.get(field)
            vectorised = all(step.transform.vectorised for step in own.values())
            if field in varying:
                vectorised = isinstance(self._reader, ArraysReader) and not own
            if mapped < 0 and field in self._reader.columns and vectorised and source is not None:
                in_place = all(step.into_row and step.transform.in_place for step in own.values())
                columns.append(Column(field, source, tuple(own.values()), in_place and source == specs[-1][field]))
        self._columns = tuple(columns)
        self._ragged = tuple(column.field for column in columns if column.field in varying)
        self._unstaged = frozenset(name for field in self._ragged for name in (field, lengths_of(field)))
        done = {column.field for column in columns}
        self._sample_fields = tuple(field for field in specs[-1] if field not in done)
        self._read_fields = frozenset(self._source_spec if mapped >= 0 else self._sample_fields)
        self._sample_steps: list[tuple[int, FieldTransform | SampleTransform, bool]] = [
            (number, transform, number in steps and steps[number].into_row)
            for number, transform in enumerate(chain)
            if isinstance(transform, SampleTransform) or transform.field not in done
        ]

    def _steps_of(self, field: str, numbers: list[int], specs: list[Spec]) -> dict[int, Step]:
        """Return the steps of one field; from the last that changes its spec on, they write into the row."""
        chain = self.declaration.transforms
        steps: dict[int, Step] = {}
        into_row = field not in self._finisher.varying
        for number in reversed(numbers):
            transform = chain[number]
            assert isinstance(transform, FieldTransform), "only field transforms have numbers here"
            into_row = into_row and specs[number + 1][field] == specs[-1][field]
            steps[number] = Step(number, transform, into_row)
            into_row = into_row and transform.in_place
        return dict(sorted(steps.items()))

    # -- filling ---------------------------------------------------------------------------------------------

    def _pad(self, filled: int, out: Rows) -> None:
        for rows in out.values():
            rows[filled:] = 0
        out[IDS][filled:] = -1

    def _draw_key(self, epoch: int, number: int) -> int:
        key = self._draw_keys.get((epoch, number))
        if key is None:
            if len(self._draw_keys) > 1000:
                self._draw_keys.clear()
            key = self._draw_keys[epoch, number] = stream_key("draws", self.declaration.seed, epoch, number)
        return key

    def _draw(self, epoch: int, positions: NDArray[np.int64]) -> dict[int, NDArray[np.float64]]:
        """Return the random numbers of each transform, of shape (rows, draws)."""
        return {
            number: uniforms(self._draw_key(epoch, number), positions, transform.draws)
            for number, transform in enumerate(self.declaration.transforms)
            if isinstance(transform, FieldTransform)
        }

    def _fill_column(self, column: Column, ids: NDArray[np.int64], draws: Any, out: Rows) -> None:
        values = rows = out[column.field]
        if column.field in self._finisher.varying:
            assert isinstance(self._reader, ArraysReader), "no other source has such rows"
            sources, out[lengths_of(column.field)][...] = self._reader.ragged_rows(column.field, ids)
            for row, source in zip(rows, sources, strict=True):
                row[: len(source)] = source
            return
        if not column.read_into_row:
            values = np.empty((len(ids), *column.source_spec.room), column.source_spec.dtype)
        self._reader.read_column(column.field, ids, values)
        try:
            for step in column.steps:
                values = step.transform.apply(values, draws[step.number], rows if step.into_row else None)
        except Exception:
            self._blame(column, ids, draws)
            raise
        if values is not rows:
            rows[...] = values

    def _blame(self, column: Column, ids: NDArray[np.int64], draws: Any) -> None:
        """Raise the error of the first sample that fails alone."""
        for row, sample_id in enumerate(ids.tolist()):
            with self._naming(sample_id):
                values = np.empty((1, *column.source_spec.room), column.source_spec.dtype)
                self._reader.read_column(column.field, ids[row : row + 1], values)
                for step in column.steps:
                    values = step.transform.apply(values, draws[step.number][row : row + 1], None)

    def _fill_samples(
        self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64], draws: Any, out: Rows
    ) -> None:
        fields, steps = self._sample_fields, self._sample_steps
        for number, (sample_id, position) in enumerate(zip(ids.tolist(), positions.tolist(), strict=True)):
            with self._naming(sample_id):
                rows = {field: out[field][number, ...] for field in fields}  # without the dots, numbers were copies
                sample = self._read(epoch, sample_id, position, self._read_fields)
                for step, transform, into_row in steps:
                    if isinstance(transform, SampleTransform):
                        sample = transform.apply(sample, self._draw_key(epoch, step), position)
                    else:
                        name = transform.field
                        row = rows[name] if into_row else None
                        sample[name] = transform.apply(sample[name], draws[step][number], row)
                self._collate(sample, rows, out, number)

    def _read(self, epoch: int, sample_id: int, position: int, fields: frozenset[str]) -> dict[str, Any]:
        """Read one sample; a user's source may draw random numbers, so these are pinned down, as for `map`."""
        self._seed_source(epoch, position)
        return self._reader.read(sample_id, fields)

    def _seed_source(self, epoch: int, position: int) -> None:
        if self._seeds_source:
            seed_globals(self._draw_key(epoch, SOURCE), position)

    def _collate(self, sample: dict[str, Any], rows: dict[str, np.ndarray], out: Rows, number: int) -> None:
        for field, row in rows.items():
            if field not in sample:
                raise SpecMismatch(f"field {field!r} is missing; the sample has {list(sample)}")
            if field in self._finisher.varying:
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

    def _naming(self, sample_id: int) -> Naming:
        return Naming(self._reader.describe, sample_id)


def default_roles(spec: Spec) -> tuple[list[str], list[str]]:
    """Return the fields, or groups of them, that a model gets as inputs and as targets, unless told otherwise.

    >>> default_roles({"image": FieldSpec((8, 8, 3), "uint8"), "label": FieldSpec((), "int64")})
    (['image'], ['label'])
    >>> default_roles({"x/left": FieldSpec((), "int64"), "x/right": FieldSpec((), "int64"), "y": FieldSpec((), "bool")})
    (['x'], ['y'])
    """
    tops: Mapping[str, None] = dict.fromkeys(name.partition(SEPARATOR)[0] for name in spec)
    targets = [name for name in ("label", "y") if name in tops][:1]
    inputs = [name for name in ("image", "x") if name in tops][:1]
    return inputs or [name for name in tops if name not in (*targets, WEIGHT)], targets
