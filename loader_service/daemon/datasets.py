"""The datasets that a daemon has open: what they are, their slots, and who is waiting for one to be opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loader_service.daemon.streams import Share, Shelf, StreamId
from loader_service.protocol.arena import reserve_slots
from loader_service.protocol.layout import Layout
from loader_service.protocol.ledger import Ledger
from loader_service.protocol.messages import DatasetOpened, StreamOpened
from loader_service.protocol.shard import Shard
from loader_service.protocol.spec import DatasetInfo
from loader_service.protocol.tables import tables_in


@dataclass(eq=False)
class WaitingStream:
    """A stream that waits for its dataset to be opened."""

    stream: StreamId
    declaration: dict[str, Any]
    prefetch: int  # 0: as many as seem right
    shard: Shard
    bundles: bool  # whether small batches may come in bundles


@dataclass(eq=False)
class Served:
    """One dataset key, or one shard of it: its arena and its slots."""

    number: int  # of the dataset and of its arena, in messages
    declaration: dict[str, Any]
    shard: Shard
    opened: DatasetOpened
    layout: Layout
    slots: int
    most_slots: int  # that the arena has room for
    arena: int  # descriptor
    ledger: Ledger  # of the key
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.slots, come_round=self.info.whole)

    def grow(self, slots: int) -> None:
        """Have so many slots.

        Raises:
            NotEnoughMemory: If the kernel cannot reserve them.
        """
        reserve_slots(self.arena, self.layout, range(self.slots, slots))
        self.slots = slots
        self.shelf.grow(slots)

    @property
    def info(self) -> DatasetInfo:
        """What its streams are told."""
        return self.opened.info

    @property
    def nbytes(self) -> int:
        """Bytes that the arena takes; batches that go beyond their slots come on top."""
        return self.slots * self.layout.slot_nbytes

    @property
    def mapped_nbytes(self) -> int:
        """Bytes that readers and workers map."""
        return self.most_slots * self.layout.stride

    @property
    def tables(self) -> set[str]:
        """Hashes of all tables that a worker needs to open it."""
        return set(tables_in(self.declaration)) | {ref.table for ref in self.opened.index.values()}

    def rows(self, n: int) -> int:
        """Return how many rows of batch `n` are the shard's, padding included."""
        return len(self.shard.of(self.info.rows(n)))

    def parts(self, n: int) -> int:
        """Return how many rows of batch `n` are made one by one: if it is made in one piece, that piece."""
        return 1 if self.info.whole else self.rows(n)

    def stream_opened(self, stream: StreamId, share: Share) -> StreamOpened:
        """Return what the client is told."""
        return StreamOpened(
            stream[1],
            self.info,
            self.number,
            prefetch=share.prefetch,
            views=share.views,
            latest=self.shelf.latest(),
            doubts=self.opened.doubts,
        )
