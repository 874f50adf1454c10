"""The arenas of the daemon: one for each dataset key, or shard of one, that is read.

It is made for the first stream over a key, grows for further ones, and is closed some time after the last: whoever
comes back by then finds the dataset open, and its batches made. All of them together have so much memory; one that
nobody reads makes room for one that somebody wants to.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator

from loader_service.daemon.datasets import Served, WaitingStream
from loader_service.daemon.ledgers import Ledgers
from loader_service.daemon.memory import MOST_STREAMS, choose_slots, mebibytes
from loader_service.daemon.workers import Workers
from loader_service.machine import available_memory
from loader_service.protocol.arena import create_arena
from loader_service.protocol.errors import NotEnoughMemory
from loader_service.protocol.layout import Layout
from loader_service.protocol.messages import DatasetOpened
from loader_service.protocol.prefetch import LEAST_AHEAD, prefetch_of, slots_of
from loader_service.protocol.shard import layout_of

log = logging.getLogger(__name__)

GRACE = 30.0  # seconds that a dataset stays open after its last stream
MOST_UNREAD = 64  # datasets that stay open for that long at a time


class Arenas:
    """Who serves which dataset."""

    def __init__(self, memory_limit: int, ledgers: Ledgers, closed: Callable[[], None]) -> None:
        """Begin without any.

        Args:
            memory_limit: Bytes of all of them.
            closed: Called when one was closed.
        """
        self._limit, self._ledgers, self._closed = memory_limit, ledgers, closed
        self._workers: Workers
        self._served: dict[int, Served] = {}  # by dataset number
        self._closing: dict[int, asyncio.TimerHandle] = {}  # those without a stream
        self._loop = asyncio.get_running_loop()

    def start(self, workers: Workers) -> None:
        """Have rows made by `workers`."""
        self._workers = workers

    def close(self) -> None:
        """Let go of all memory."""
        for timer in self._closing.values():
            timer.cancel()
        for served in self._served.values():
            os.close(served.arena)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def __getitem__(self, dataset: int) -> Served:
        return self._served[dataset]

    def get(self, dataset: int) -> Served | None:
        """Return who serves a dataset, by its number; None if it was closed meanwhile."""
        return self._served.get(dataset)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(served.nbytes for served in self)

    def serve(self, opening: WaitingStream, opened: DatasetOpened) -> tuple[Served, int]:
        """Return who serves a dataset to a further stream, and how far ahead that one may ask; there is memory for it.

        Raises:
            LoaderError: If the dataset cannot be cut into such shards, or memory is short.
        """
        wanted = opened.info.key, opening.shard, opened.info.bundle
        readers = (served for served in self if (served.info.key, served.shard, served.info.bundle) == wanted)
        known = None if opened.info.live else next(readers, None)
        if known is not None and (timer := self._closing.pop(known.number, None)) is not None:
            timer.cancel()
        try:
            opening.shard.check(opened.info)
            layout = layout_of(opened.info, opening.shard)
            prefetch = prefetch_of(opening.prefetch, layout.slot_nbytes, opened.info)
            try:
                served = known or self._make(opening, opened, layout, slots_of(prefetch))
            except NotEnoughMemory:
                if opening.prefetch or prefetch == LEAST_AHEAD:
                    raise
                prefetch = LEAST_AHEAD  # nobody has asked for more
                served = self._make(opening, opened, layout, slots_of(prefetch))
            self._make_room(served, prefetch)
        except BaseException:
            if known is not None:
                self.close_if_unread(known)
            raise
        return served, prefetch

    def close_if_unread(self, served: Served) -> None:
        """A stream has ended: if it was the last one, close some time soon."""
        if not served.shelf.streams:
            self._closing[served.number] = self._loop.call_later(GRACE, self._close, served.number)
            for oldest in list(self._closing)[:-MOST_UNREAD]:
                self._close(oldest)

    def _make(self, opening: WaitingStream, opened: DatasetOpened, layout: Layout, wanted: int) -> Served:
        """Make the arena of a key that nobody reads yet, with as many slots as are wanted, or fewer.

        Raises:
            NotEnoughMemory: If two slots do not fit.
        """
        slots = self._affordable(layout, wanted)
        most_slots = max(slots, min(MOST_STREAMS * wanted, self._limit // layout.slot_nbytes))
        arena = create_arena(layout, slots, most_slots)
        log.info("arena", extra={"key": opened.info.key, "slots": slots, "size": mebibytes(slots * layout.slot_nbytes)})
        ledger = self._ledgers.of(opened.info.key)
        served = Served(
            opened.dataset, opening.declaration, opening.shard, opened, layout, slots, most_slots, arena, ledger
        )
        self._served[served.number] = served
        self._workers.serve(served)
        if ledger.ids:  # its opener knows what the file holds, and no more
            self._workers.replace(served.number, ledger.ids)
        return served

    def _make_room(self, served: Served, prefetch: int) -> None:
        """See to it that a further stream gets a share; the one that it would like, if memory allows.

        Raises:
            NotEnoughMemory: If not even one slot is left for it.
        """
        missing = min(slots_of(prefetch) - served.shelf.unspoken, served.most_slots - served.slots)
        try:
            if missing > 0:
                served.grow(served.slots + self._affordable(served.layout, missing))
        except NotEnoughMemory:
            if not served.shelf.unspoken:
                raise
        if not served.shelf.unspoken:
            raise NotEnoughMemory(
                f"{len(served.shelf.streams)} streams read this dataset, and hold all of its {served.slots} slots: "
                "close one, or lower their `prefetch`"
            )

    def _affordable(self, layout: Layout, wanted: int) -> int:
        """Return how many of the wanted slots there is memory for; what nobody reads makes room first."""
        for number in list(self._closing):
            if self.nbytes + wanted * layout.slot_nbytes > self._limit:
                self._close(number)
        return choose_slots(
            layout.slot_nbytes, wanted, limit=self._limit, used=self.nbytes, available=available_memory()
        )

    def _close(self, dataset: int) -> None:
        self._closing.pop(dataset).cancel()
        served = self._served.pop(dataset)
        self._workers.forget(dataset)
        os.close(served.arena)
        self._closed()
        log.info("dataset closed", extra={"key": served.info.key})
