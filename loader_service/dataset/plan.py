"""A declared dataset -> any rows of any batch.

    epochs     which samples stand in a batch (epochs.py, order.py, buckets.py, selection/)
    rows       one of each sample (chain.py; of several sources, parts.py)
    finish     what can be done only when all rows of a batch are there (finish/): they are on a stage until then

`Plan.fill` is a pure function of (n, start, stop) and of the ledger: order and selection give the sample ids, those
that cannot be made are replaced (bad_samples.py), and random numbers depend on (seed, epoch, position). `compute` and
every worker run this same code; how rows are cut into tasks cannot be seen in the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.bad_samples import BadSamples
from loader_service.dataset.cache.samples import open_cached
from loader_service.dataset.chain import Chain, ChainTold, Rows
from loader_service.dataset.class_counts import class_counts
from loader_service.dataset.declaration import Batch, Declaration
from loader_service.dataset.draws import DrawKeys
from loader_service.dataset.epochs import Epochs, index_of_lengths
from loader_service.dataset.finish.finisher import Finisher
from loader_service.dataset.finish.step import Finish, Lengths, Room
from loader_service.dataset.kinds import AnySource
from loader_service.dataset.parts import Parts
from loader_service.dataset.selection.opening import make_index, select
from loader_service.dataset.selection.runs import Skip
from loader_service.dataset.sources.joined import JoinedReader, Leaf
from loader_service.dataset.sources.source import Index, Reader, ReadTable
from loader_service.dataset.transforms.map import UserFunction, globals_kept
from loader_service.protocol.bundles import bundled
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.layout import IDS, IDS_SPEC, arrays_of, lengths_of
from loader_service.protocol.ledger import ATTEMPTS, Ledger, error_about
from loader_service.protocol.nesting import SEPARATOR
from loader_service.protocol.ragged import assembled
from loader_service.protocol.shard import WHOLE, Shard
from loader_service.protocol.spec import DatasetInfo, FieldSpec, Spec
from loader_service.protocol.tables import TableRef

FINISH = -2  # of the first finish step; the others count down
FIRST_TRIES = 10  # samples that may fail when a dataset is opened; if more do, it is not for their own sake
WEIGHT = "weight"  # float32 (): what `remainder="pad"` adds; 0 in padding rows


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
        self.declaration, self._table = declaration, table
        self._opens_first = index is None
        self._keys = DrawKeys(declaration.seed)
        self._functions = [
            step for step in (*declaration.transforms, *declaration.finish) if isinstance(step, UserFunction)
        ]
        for function in self._functions:
            function.bind(table)
        self._open_source(index)
        epochs = self._epochs = Epochs(declaration, self._selection, self.index)
        self.samples, self.shuffled = epochs.samples, epochs.shuffled
        self.batch_size, self.batches_per_epoch, self.short = epochs.batch_size, epochs.batches, epochs.short
        pool = self._selection.pool
        most = declaration.on_error.most_replaced(pool.size) if declaration.on_error else 0
        self._bad = BadSamples(self.key, pool, declaration.seed, most, replaced)
        self._rows = self._learn(blame)
        self._open_finish()
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
            remainder=self._epochs.remainder,
            short=self.short,
            live=self.declaration.source.live,
            stage=self._finisher.stage,
            most_replaced=self._bad.most,
            parts=self.parts,
            class_counts=self._count_classes(),
        )

    @cached_property
    def bundled_info(self) -> DatasetInfo:
        """What daemon and workers take it for: small batches come in bundles, where rows are copied out of arrays."""
        copies = isinstance(self._rows, Chain) and self._rows.copies and self.declaration.bucket_by_length is None
        return bundled(self.info) if copies else self.info

    def bundle(self) -> None:
        """Take each bundle of batches for a batch from here on."""
        info = self.info = self.bundled_info
        self.batch_size, self.batches_per_epoch, self.short = info.batch_size, info.batches_per_epoch, info.short

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
        ids = self.ids(epoch, first, first + filled)
        out[IDS][...] = ids
        if self._adds_weight:
            out[WEIGHT][...] = 1
        self.make_rows(epoch, ids, positions, out)

    def make_rows(self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64], out: Rows) -> None:
        """Make rows of the samples that stand at these positions of an epoch."""
        self._rows.make_rows(epoch, ids, positions, out)

    def make(self, n: int, rows: range, out: Rows, room: Room) -> None:
        """Make batch `n`, or that part of it which has these rows, in one go: what lies in memory is not staged first.

        Args:
            out: Arrays as `empty_rows` makes them.
            room: Hands out room for an array of the batch, given its name, shape and dtype.
        """
        self.fill(n, rows.start, rows.stop, {name: array for name, array in out.items() if name not in self._unstaged})
        filled: dict[str, Any] = dict(out)
        for field in self._rows.ragged:
            filled[field] = self._rows.sequences(field, out[IDS])
        self.finish(n, rows, filled, room)

    def original(self, sample_id: int, epoch: int, position: int) -> dict[str, Any]:
        """Return a sample as its source has it, when it stands at a position of an epoch."""
        with globals_kept():
            return self._rows.original(sample_id, epoch, position)

    def batch_of(self, epoch: int, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> dict[str, Any]:
        """Make a batch of these samples, as if they stood at these positions of an epoch, whoever stands there.

        Raises:
            SampleError: If one cannot be made. None is replaced.
        """
        out = self.empty_rows(len(ids))
        made: dict[str, np.ndarray] = {}

        def room(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            made[name] = np.empty(shape, dtype)
            return made[name]

        out[IDS][...] = ids
        if self._adds_weight:
            out[WEIGHT][...] = 1
        with globals_kept():
            self.make_rows(epoch, ids, positions, out)
            if self._finisher.stage:
                self.finish(epoch * self.batches_per_epoch, range(len(ids)), out, room)
        made = {**out, **made}
        return assembled({name: made[name] for name in arrays_of(self.spec)}, self.spec)

    def insist(self, make: Callable[[], None]) -> None:
        """Make something again until it can be made: with others in the place of bad samples, as far as that may be."""
        self._bad.insist(make)

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
            return self._keys.of(epoch, FINISH - step)

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

    def chains(self) -> list[tuple[int, AnySource, ChainTold]]:
        """Return how rows are made: the id of a source's first sample, the source, and what is done to its samples."""
        if isinstance(self._rows, Parts):
            return self._rows.chains()
        return [(0, self.declaration.source, self._rows.describe())]

    def finishes(self) -> list[tuple[Finish, dict[str, FieldSpec]]]:
        """Return the steps that act on whole batches, each with what a batch is after it."""
        return self._finisher.told

    @property
    def source_samples(self) -> int:
        """Samples of the source, selected or not."""
        return len(self._reader)

    def doubts(self) -> list[str]:
        """Return what seems wrong with the user's code, in sentences: it is run some times more to find out."""
        pool = self._selection.pool
        some = self._bad.apply(pool.fixed_ids(np.arange(min(2, pool.size), dtype=np.int64)))
        return self._rows.doubts(some) or self._finisher.doubts(lambda step: self._keys.of(0, FINISH - step))

    def first_sample(self) -> Mapping[str, Any]:
        """Return the first sample after all transforms."""
        return self._rows.first_sample()

    @property
    def runs_user_code(self) -> bool:
        """Whether a user's code is run for rows or batches."""
        return self._runs_user_code

    def error_of(self, n: int, rows: range, row: int, told: str) -> DatasetError:
        """Return the error that names the sample in one of these rows of batch `n`, without touching it."""
        if row == len(rows):
            return SampleError(f"batch {n}, when it was made of its rows: {told}")
        epoch, batch = divmod(n, self.batches_per_epoch)
        row += rows.start
        position = batch * self.batch_size + row
        if row >= self.info.samples_of(n):
            return SampleError(f"row {row} of batch {n}, which is padding: {told}")
        (sample_id,) = self.ids(epoch, position, position + 1).tolist()
        return error_about(sample_id, self._reader.describe(sample_id), told)

    # -- opening ---------------------------------------------------------------------------------------------

    def _open_source(self, index: Index | None) -> None:
        """Find out which samples there are, and which of them are selected."""
        try:
            self.index = make_index(self.declaration, self._table) if index is None else index
            self._reader: Reader = self.declaration.source.reader(self.index, self._table)
            self._selection = select(self.declaration, self._reader, self.index, self.declaration.seed)
            if index is None:
                self.index |= index_of_lengths(self.declaration, self._selection, self._reader, self._table)
        except OSError as error:
            raise DatasetError(f"the source cannot be opened: {error}") from error
        self.index_refs = {name: TableRef.of(array) for name, array in self.index.items()}
        content, code = {name: ref.table for name, ref in self.index_refs.items()}, self.declaration.hashed_code()
        self.key, self.parts = self.declaration.key(content, code), self.declaration.parts(content, code)
        self.class_names = self.declaration.source.class_names(self.index)

    def _open_finish(self) -> None:
        """Find out what a batch is, which arrays its rows are written to, and how."""
        self._finisher = Finisher(self._rows.spec, self.declaration.finish, self.batch_size, self._rows.first_sample)
        stage, varying, row_spec = self._finisher.stage, self._finisher.varying, self._rows.spec
        self._rows.compile(varying, staged=bool(stage))
        self._runs_user_code = self._rows.runs_user_code or bool(self._functions)
        #: What `make` leaves out of the stage, since it is taken from where it is.
        self._unstaged = frozenset(name for field in self._rows.ragged for name in (field, lengths_of(field)))
        self.row_spec: dict[str, FieldSpec] = {
            **row_spec,
            **{name: replace(field, form=row_spec[name].form) for name, field in varying.items()},
        }
        self.spec: dict[str, FieldSpec] = self._finisher.spec
        if IDS in self.spec:
            raise DatasetError(f"a field cannot be named {IDS!r}: each batch has its sample ids there. Rename yours.")
        self._adds_weight = self._epochs.remainder == "pad" and WEIGHT not in self.spec
        if self._adds_weight:
            self.spec = {**self.spec, WEIGHT: FieldSpec((), "float32")}
        self._row_specs = {
            **{name: field for name, field in self.spec.items() if name in row_spec and name not in stage},
            **({WEIGHT: self.spec[WEIGHT]} if self._adds_weight else {}),
            **stage,
            IDS: IDS_SPEC,
        }

    def _count_classes(self) -> list[int]:
        """Return how many samples each class has, where that is known, and targets still tell it.

        Whoever opens a dataset first says so: all others would count for nobody.
        """
        if not self._opens_first or len(self.targets) != 1 or not isinstance(self._rows, Chain):
            return []
        (field,) = self.targets
        return class_counts(self.declaration, self._reader, self._selection, field, self._rows.source_spec.get(field))

    def _open_part(self, leaf: Leaf, first: int) -> Plan:
        """Open one part of several as a dataset by itself, which begins with a certain sample."""
        cache = self.declaration.cache
        declaration = Declaration(
            source=leaf.source,
            transforms=(*leaf.transforms, *self.declaration.transforms),
            select=(Skip(n=first),),
            finish=tuple(step for step in self.declaration.finish if isinstance(step, Lengths)),  # how rows are written
            shuffle=self.declaration.shuffle,
            batch=Batch(size=1),
            cache=cache and cache.model_copy(update={"after": len(leaf.transforms) + cache.after}),
        )
        return Plan(declaration, self._table, leaf.index, replaced=())

    def _learn(self, blame: str) -> Chain | Parts:
        """Return what makes rows: of samples that look like the first one that can be made."""
        raised: Counter[int] = Counter()
        if blame and isinstance(self._reader, JoinedReader):  # each part has a first sample: which one was it?
            raise DatasetError(f"{blame}. Each part is opened with a sample of it: open them one by one to see which")
        if blame:
            first = self._bad.first
            raised[first] = ATTEMPTS
            self._bad.forgive(error_about(first, self._reader.describe(first), blame), raised)
        while True:
            try:
                rows = self._open_rows(self._bad.first)
                break
            except DatasetError as error:
                if len(raised) >= FIRST_TRIES:
                    raise
                self._bad.forgive(error, raised)
        self._bad.write()
        return rows

    def _open_rows(self, first: int) -> Chain | Parts:
        if isinstance(self._reader, JoinedReader):
            return Parts(self._reader, self._selection.pool, self._bad.ids, self._open_part)
        cached = open_cached(self.declaration, self.index, self._reader)
        return Chain(self._reader, self.declaration.transforms, self._keys, first, cached)

    # -- filling ---------------------------------------------------------------------------------------------

    def ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return which samples stand at these positions of an epoch."""
        return self._bad.apply(self._epochs.ids(epoch, start, stop))

    def _pad(self, filled: int, out: Rows) -> None:
        for rows in out.values():
            rows[filled:] = 0
        out[IDS][filled:] = -1


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
