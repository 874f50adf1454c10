"""A dataset whose source makes whole batches: the counterpart of `Plan`, which makes batches out of samples.

Nothing is put together here: a batch comes as it is, of any shape, and is copied once into its slot. What `Plan` does
for samples, this does for batches: their order, names for errors, others in the place of those that cannot be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.bad_samples import BadSamples
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.finish.step import Room
from loader_service.dataset.naming import Naming
from loader_service.dataset.order import OrderCache
from loader_service.dataset.plan import Plan
from loader_service.dataset.selection.selection import Everything
from loader_service.dataset.sources.keras_sequence import KerasSequence
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.dataset.transforms.map import globals_kept
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS
from loader_service.protocol.ledger import Ledger, error_about
from loader_service.protocol.shard import WHOLE, Shard
from loader_service.protocol.spec import DatasetInfo
from loader_service.protocol.structure import names_in, part_of
from loader_service.protocol.tables import TableRef


class WholePlan:
    """An opened dataset in one process: what it looks like, and how any of its batches is made."""

    def __init__(
        self,
        declaration: Declaration,
        table: ReadTable,
        index: Index | None = None,
        replaced: Iterable[int] | None = None,
        blame: str = "",
    ) -> None:
        """Open a dataset; arguments are those of `Plan`."""
        source = declaration.source
        assert isinstance(source, KerasSequence), "others make samples"
        _refuse_what_acts_on_samples(declaration)
        if blame:
            raise error_about(0, f"{source.attr.name}[0]", blame)
        self.declaration = declaration
        self.index = source.make_index(table) if index is None else index
        self.index_refs = {name: TableRef.of(array) for name, array in self.index.items()}
        content, code = {name: ref.table for name, ref in self.index_refs.items()}, declaration.hashed_code()
        self.key, self._parts = declaration.key(content, code), declaration.parts(content, code)
        self._batches = source.batches(self.index, table)
        looks = self._batches.looks
        self.spec = dict(looks.spec)
        self.class_names: list[str] = []
        self.samples = self.batches_per_epoch = looks.length
        self.batch_size = looks.rows
        self._order = OrderCache(looks.length, declaration.seed if declaration.shuffle else None)
        most = declaration.on_error.most_replaced(looks.length) if declaration.on_error else 0
        self._bad = BadSamples(self.key, Everything(looks.length), declaration.seed, most, replaced)

    @cached_property
    def info(self) -> DatasetInfo:
        """What a stream over this dataset must know."""
        structure = self._batches.looks.structure
        parts = {name: part_of(name) for name in names_in(structure)}
        return DatasetInfo(
            key=self.key,
            spec=self.spec,
            batch_size=self.batch_size,
            samples=self.samples,
            batches_per_epoch=self.batches_per_epoch,
            shuffled=True,  # or so it may be: each epoch is the object's own affair
            inputs=[name for name, part in parts.items() if part == "x"],
            targets=[name for name, part in parts.items() if part == "y"],
            class_names=[],
            whole=True,
            structure=structure,
            live=self._batches.looks.live,
            most_replaced=self._bad.most,
            parts=self._parts,
        )

    @property
    def ledger(self) -> Ledger:
        """Which batches are known to be bad here."""
        return self._bad.ledger

    def replace(self, ids: Iterable[int]) -> None:
        """Replace these batches, too, from here on."""
        self._bad.replace(ids)

    def put(self, n: int, room: Room) -> None:
        """Make batch `n`.

        Args:
            room: Hands out room for an array of the batch, given its name, shape and dtype.
        Raises:
            SampleError: If it cannot be made; it is named.
            SpecMismatch: If it does not fit the spec.
        """
        epoch, number = self._which(n)
        with Naming(self._batches.describe, number):
            for name, array in self._batches.make(epoch, number).items():
                room(name, array.shape, self.spec[name].dtype)[...] = array
        room(IDS, (1,), "int64")[...] = number

    def compute(self, n: int, shard: Shard = WHOLE) -> dict[str, np.ndarray]:
        """Make batch `n` here and now, ids included: the definition that every other way must equal."""
        shard.check(self.info)
        self._bad.heed_file()
        made: dict[str, np.ndarray] = {}

        def room(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            made[name] = np.empty(shape, dtype)
            return made[name]

        with globals_kept():
            self._bad.insist(lambda: self.put(n, room))
        self._bad.write()
        return made

    def names(self, ids: NDArray[np.integer[Any]] | None = None) -> list[str]:
        """Return what batches are called."""
        return [self._batches.describe(number) for number in (range(self.samples) if ids is None else ids.tolist())]

    def error_of(self, n: int, rows: range, row: int, told: str) -> DatasetError:
        """Return the error that names batch `n`, without touching it."""
        number = self._which(n)[1]
        return error_about(number, self._batches.describe(number), told)

    def doubts(self) -> list[str]:
        """Return what is wrong with the user's code, in sentences."""
        return self._batches.doubts()

    def proof(self) -> str:
        """Return the hash of the first batch, to compare with what another process makes; "" if it cannot be made."""
        digest = hashlib.blake2b(digest_size=16)
        try:
            with globals_kept():
                for name, array in self._batches.make(0, 0).items():
                    digest.update(repr((name, array.shape, array.dtype.str)).encode() + array.tobytes())
        except Exception:  # whoever wants it will be told
            return ""
        return digest.hexdigest()

    def _which(self, n: int) -> tuple[int, int]:
        """Return epoch and number of what stands in the place of batch `n`."""
        epoch, position = divmod(n, self.batches_per_epoch)
        (number,) = self._bad.apply(self._order.ids(epoch, position, position + 1)).tolist()
        return epoch, number


AnyPlan = Plan | WholePlan


def open_plan(
    declaration: Declaration,
    table: ReadTable,
    index: Index | None = None,
    replaced: Iterable[int] | None = None,
    blame: str = "",
) -> AnyPlan:
    """Open a dataset in this process, whatever its source makes; arguments are those of `Plan`."""
    opened = WholePlan if declaration.source.whole else Plan
    return opened(declaration, table, index, replaced, blame)


def _refuse_what_acts_on_samples(declaration: Declaration) -> None:
    kind = declaration.source.kind
    if declaration.batch is not None:
        raise DatasetError(f"{kind}: its items are whole batches already: leave .batch({declaration.batch.size}) out")
    steps: list[str] = [step.kind for step in (*declaration.transforms, *declaration.select, *declaration.finish)]
    if declaration.bucket_by_length is not None:
        steps.append("bucket_by_length")
    if steps:
        raise DatasetError(
            f"{kind}: its items are whole batches, and .{steps[0]}() acts on samples: do that in its __getitem__"
        )
