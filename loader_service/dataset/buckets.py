"""Batches of samples of about one length: an epoch's samples are cut into batches bucket by bucket.

    bucket k     samples that are no longer than boundary k, and longer than the one before; the last one has the rest
    an epoch     the whole batches of all buckets, shuffled together; then the short last batch of each bucket

Samples are shuffled within their bucket. As a function: position -> number is pure in (seed, epoch), in O(1) memory
beside one table of the samples, sorted by bucket. Short batches come last, since readers must know how many rows a
batch has by its number alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.draws import stream_key
from loader_service.dataset.order import GroupOrder, ShuffledOrder
from loader_service.dataset.sources.arrays import ArraysReader
from loader_service.dataset.sources.source import Index, Reader, ReadTable
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.tables import TableRef

Length = Annotated[int, Field(ge=0, lt=2**31)]


class Buckets(BaseModel):
    """Put samples of about one length into each batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(description="Whose rows differ in length.")
    boundaries: Annotated[tuple[Length, ...], Field(min_length=1, description="The longest row of each bucket.")]
    lengths: Annotated[TableRef | None, SkipJsonSchema()] = None  # of each sample of the source; None: it knows them

    @field_validator("boundaries")
    @classmethod
    def _rise(cls, boundaries: tuple[int, ...]) -> tuple[int, ...]:
        if any(one >= other for one, other in pairwise(boundaries)):
            raise ValueError(f"boundaries must rise, got {list(boundaries)}")
        return boundaries

    def make_index(self, lengths: NDArray[np.int64]) -> Index:
        """Sort samples into buckets, given the length of each."""
        bucket = np.searchsorted(np.asarray(self.boundaries), lengths, side="left")
        sizes = np.bincount(bucket, minlength=len(self.boundaries) + 1)
        return {"sorted": np.argsort(bucket, kind="stable").astype(np.int64), "sizes": sizes.astype(np.int64)}


def lengths_of_samples(buckets: Buckets, reader: Reader, table: ReadTable) -> NDArray[np.int64]:
    """Return the length of each sample of a source.

    Raises:
        DatasetError: If nobody knows them.
    """
    if buckets.lengths is not None:
        lengths = table(buckets.lengths)
        if lengths.shape != (len(reader),) or lengths.dtype.kind not in "iu":
            raise DatasetError(
                f"bucket_by_length: lengths is {lengths.dtype} {lengths.shape}, expected a whole number for each of "
                f"the {len(reader):,} samples of the source"
            )
        return lengths
    known = reader.lengths(buckets.field) if isinstance(reader, ArraysReader) else None
    if known is None:
        raise DatasetError(
            f"bucket_by_length: the source does not know how long field {buckets.field!r} of each sample is: "
            "say lengths=..., a whole number for each sample"
        )
    return known


class BucketOrder:
    """Which sample stands where, batch by batch; a short batch has positions that nobody stands at."""

    def __init__(
        self, index: Index, batch_size: int, seed: int | None, remainder: Literal["keep", "drop", "pad"]
    ) -> None:
        """Cut buckets into batches.

        Raises:
            DatasetError: If no bucket fills a batch, and short ones are dropped.
        """
        self._sorted, self._sizes = index["sorted"], index["sizes"]
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._batch_size, self._seed = batch_size, seed
        self._whole = self._sizes // batch_size  # batches of each bucket
        self._ends = np.cumsum(self._whole)
        rest = self._sizes % batch_size
        self._short = np.flatnonzero(rest) if remainder != "drop" else np.empty(0, np.intp)
        #: rows of an epoch's last batches, those that are short
        self.short: list[int] = rest[self._short].tolist()
        self.batches = int(self._ends[-1]) + len(self.short)
        if not self.batches:
            raise DatasetError(
                f"no bucket has the {batch_size:,} samples of a batch (they have {self._sizes.tolist()}), and short "
                'batches are dropped: use a smaller batch, fewer boundaries, or remainder="keep"'
            )

    def numbers(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the samples at these positions of an epoch; of any sample where nobody stands."""
        batches, of_batch = np.unique(positions // self._batch_size, return_inverse=True)
        buckets, firsts = self._begin(epoch, batches)
        bucket = buckets[of_batch]
        place = np.minimum(firsts[of_batch] + positions % self._batch_size, self._sizes[bucket] - 1)
        if self._seed is not None:
            for number in np.unique(buckets).tolist():
                of_bucket = bucket == number
                key = stream_key("within a bucket", self._seed, epoch, number)
                place[of_bucket] = GroupOrder(int(self._sizes[number]), key).ids(place[of_bucket])
        found: NDArray[np.int64] = self._sorted[self._starts[bucket] + place]
        return found

    def _begin(self, epoch: int, batches: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the bucket of each batch, and where in that it begins."""
        whole = int(self._ends[-1])
        is_whole = batches < whole
        chunk = np.where(is_whole, batches, 0)
        if self._seed is not None and whole:
            key = stream_key("batches of buckets", self._seed)
            chunk[is_whole] = ShuffledOrder(whole, key, epoch).ids(chunk[is_whole])
        bucket = np.searchsorted(self._ends, chunk, side="right")
        number = chunk - (self._ends - self._whole)[np.minimum(bucket, len(self._ends) - 1)]
        if not is_whole.all():
            last = self._short[np.minimum(batches[~is_whole] - whole, len(self._short) - 1)]
            bucket[~is_whole], number[~is_whole] = last, self._whole[last]
        return bucket, number * self._batch_size
