"""One trainer's part of every batch, where several trainers work on one model.

The batch of the dataset is the global one: its rows are cut into equal runs, one for each trainer. So the number of
steps is the same for all of them, and how many there are changes neither what is drawn nor what is in a batch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import Layout
from loader_service.protocol.spec import DatasetInfo


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Shard:
    """The part `rank` of `count`."""

    rank: Annotated[int, Field(ge=0, lt=2**31)]
    count: Annotated[int, Field(ge=1, lt=2**31)]

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Shard:
        if self.rank >= self.count:
            raise ValueError(f"rank {self.rank} of {self.count}: ranks count from 0")
        return self

    def of(self, rows: int) -> range:
        """Return which of a batch's rows are ours.

        >>> Shard(1, 2).of(64)
        range(32, 64)
        """
        return range(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)

    def check(self, info: DatasetInfo) -> None:
        """See to it that every shard gets the same number of rows of a whole batch, and some of a short one.

        Raises:
            DatasetError: If the batches cannot be cut like that.
        """
        if info.live and self.count > 1:
            raise DatasetError(
                f"a live source cannot be cut into {self.count} shards: each would run the generator for itself"
            )
        if info.whole and self.count > 1:
            raise DatasetError(
                f"batches that come whole from a Sequence cannot be cut into {self.count} shards: give each trainer a "
                "Sequence over a part of the samples"
            )
        if info.batch_size % self.count:
            raise DatasetError(
                f"batches of {info.batch_size} rows cannot be cut into {self.count} equal shards: "
                f"use .batch() with a multiple of {self.count}"
            )
        fewest = self.count if info.remainder == "pad" else min(info.short, default=self.count)
        if fewest < self.count:
            raise DatasetError(
                f"the last batch of an epoch has {fewest} rows, too few for {self.count} shards: "
                'use .batch(..., remainder="drop") or remainder="pad"'
            )


WHOLE = Shard(0, 1)


def layout_of(info: DatasetInfo, shard: Shard) -> Layout:
    """Return where in a slot the arrays of a shard's batches lie."""
    return Layout.of(info.spec, len(shard.of(info.batch_size)), info.stage, whole=info.whole)
