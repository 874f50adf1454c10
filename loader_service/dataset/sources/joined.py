"""Sources that are put together of others: one after the other, or mixed.

Each part keeps its own source, transforms and selection. An id is that of the sample at the part's source, counted on
from where the ids of the parts before end; all samples of a source count, selected or not. So an id says which sample
it is, whatever is selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from loader_service.dataset.draws import stream_key
from loader_service.dataset.selection.drawn import DrawsOfEpoch, MixedDraws
from loader_service.dataset.selection.opening import make_index, select
from loader_service.dataset.selection.selection import Concatenated, Selection
from loader_service.dataset.sources.source import Index, Reader, ReadTable, Source, as_sub_index, sub_index
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec

if TYPE_CHECKING:  # where all sources are named, these among them
    from loader_service.dataset.declaration import Part
    from loader_service.dataset.kinds import AnySource, AnyTransform


@dataclass(frozen=True)
class Leaf:
    """A source that is not put together of others, opened; and what happens to its samples."""

    start: int  # the id of its first sample
    source: AnySource
    transforms: tuple[AnyTransform, ...]
    index: Index
    reader: Reader


class Joined(Source):
    """Parts, in their order."""

    parts: Annotated[
        tuple[Part, ...],
        Field(min_length=2, description="Tables with source, transforms and select, as a dataset has."),
    ]

    def make_index(self, table: ReadTable) -> Index:
        """Make that of each part."""
        index: Index = {}
        for number, part in enumerate(self.parts):
            if part.source.live or part.source.whole:
                raise DatasetError(f"{self.kind}: part {number} is {part.source.kind}, which has no samples by number")
            index |= as_sub_index(str(number), make_index(part, table))
        return index

    def reader(self, index: Index, table: ReadTable) -> JoinedReader:
        """Open each part."""
        parts = [
            (part, own, part.source.reader(own, table))
            for part, own in zip(self.parts, self._indexes(index), strict=True)
        ]
        return JoinedReader(parts)

    def readers(self, reader: Reader) -> list[tuple[int, Reader]]:
        """Return those of all parts."""
        assert isinstance(reader, JoinedReader), "it was opened by this source"
        return [(leaf.start, leaf.reader) for leaf in reader.leaves]

    def class_names(self, index: Index) -> list[str]:
        """Return the names that all parts agree on; none, where one knows none, or a user's function may renumber."""
        names = [part.source.class_names(own) for part, own in zip(self.parts, self._indexes(index), strict=True)]
        other = next((number for number, own in enumerate(names) if own != names[0]), 0)
        if not other:
            return names[0]
        if all(names) and not any(step.kind == "map" for part in self.parts for step in part.transforms):
            raise DatasetError(
                f"{self.kind}: the classes of part {other} are {', '.join(names[other])}, those of part 0 "
                f"{', '.join(names[0])}: a label would mean two things. Give all folders the same sub-folders, empty "
                "ones where a class is missing; or let a function number the labels anew with .map(...)"
            )
        return []

    def user_code(self) -> list[UserCode]:
        """Name the modules of all parts."""
        return [code for part in self.parts for code in part.user_code()]

    def selections(self, reader: Reader, index: Index, seed: int) -> tuple[list[Selection], list[int]]:
        """Return that of each part, and the first id of each."""
        assert isinstance(reader, JoinedReader), "it was opened by this source"
        selections = [
            select(part, own, own_index, stream_key("part", seed, number))
            for number, (part, own_index, own) in enumerate(
                zip(self.parts, self._indexes(index), reader.parts, strict=True)
            )
        ]
        return selections, reader.starts

    def _indexes(self, index: Index) -> list[Index]:
        return [sub_index(index, str(number)) for number in range(len(self.parts))]


class Concat(Joined):
    """The samples of one part, then those of the next."""

    kind: Literal["concat"] = "concat"

    @property
    def draws(self) -> bool:
        """Whether a part does."""
        return any(part.draws for part in self.parts)

    def selection(self, reader: Reader, index: Index, seed: int) -> Selection:
        """Put the selections of the parts together."""
        return Concatenated(*self.selections(reader, index, seed))


class Mix(Joined):
    """Samples of all parts, in given proportions."""

    kind: Literal["mix"] = "mix"
    weights: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
        Field(description="How many samples come from each part, in proportion to one another."),
    ]
    samples: DrawsOfEpoch = None

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if len(self.weights) != len(self.parts):
            raise ValueError(f"{len(self.weights)} weights for {len(self.parts)} parts: expected one for each")
        return self

    @property
    def draws(self) -> bool:
        """It does."""
        return True

    def selection(self, reader: Reader, index: Index, seed: int) -> Selection:
        """Give each part its share of an epoch."""
        selections, starts = self.selections(reader, index, seed)
        samples = self.samples or sum(part.size for part in selections)
        shares = shares_of(samples, self.weights)
        if 0 in shares:
            raise DatasetError(
                f"mix: part {shares.index(0)} would get none of the {samples:,} samples of an epoch: raise its weight, "
                "or `samples`"
            )
        return MixedDraws(selections, starts, shares, seed)


def shares_of(samples: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers in the proportion of the weights that make `samples` together, by largest remainders.

    >>> shares_of(10, [2, 1, 1])
    [5, 3, 2]
    """
    exact = np.asarray(weights, np.float64) / sum(weights) * samples
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: samples - shares.sum()]] += 1
    return [int(share) for share in shares]


class JoinedReader:
    """Readers of several sources, one after the other."""

    columns: frozenset[str] = frozenset()

    def __init__(self, parts: Sequence[tuple[Part, Index, Reader]]) -> None:
        self.parts = [reader for _, _, reader in parts]
        ends = np.cumsum([len(reader) for reader in self.parts])
        self.starts = [0, *ends[:-1].tolist()]
        self._length = int(ends[-1])
        self.leaves: list[Leaf] = []
        for start, (part, index, reader) in zip(self.starts, parts, strict=True):
            if isinstance(reader, JoinedReader):
                self.leaves += [
                    Leaf(start + leaf.start, leaf.source, (*leaf.transforms, *part.transforms), leaf.index, leaf.reader)
                    for leaf in reader.leaves
                ]
            else:
                self.leaves.append(Leaf(start, part.source, part.transforms, index, reader))

    def __len__(self) -> int:
        return self._length

    def model(self, sample_id: int) -> Spec:
        """Take a sample of one source as the model of all others of that source."""
        leaf = self._leaf(sample_id)
        return leaf.reader.model(sample_id - leaf.start)

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return a sample as its source has it."""
        leaf = self._leaf(sample_id)
        return leaf.reader.read(sample_id - leaf.start, fields)

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Never called: there are no columns."""
        raise AssertionError(f"sources that were put together have no column {field!r}")

    def describe(self, sample_id: int) -> str:
        """Return what its source calls a sample."""
        leaf = self._leaf(sample_id)
        return leaf.reader.describe(sample_id - leaf.start)

    def _leaf(self, sample_id: int) -> Leaf:
        return next(leaf for leaf in reversed(self.leaves) if leaf.start <= sample_id)
