"""Where a stream's batches come from: a daemon's slots, or this very process.

Both answer the same question, `take(n)`. What a dataset is, is told in the same words, `DatasetInfo`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import copy
from typing import Any, Protocol, TypeVar

import numpy as np

from loader_client.batch import Batch, Bundle, SlotReader
from loader_client.channel import Channel
from loader_client.connection import Arrived, Window
from loader_client.loans import Loans
from loader_client.replaced import tell_replaced
from loader_service.protocol.codec import error_of
from loader_service.protocol.errors import DatasetError, LoaderError
from loader_service.protocol.ledger import Ledger
from loader_service.protocol.messages import (
    BatchesReady,
    BatchFailed,
    CloseStream,
    Failed,
    OpenStream,
    RequestBatches,
    ResetStream,
    ReturnSlots,
    SamplesReplaced,
    StreamFailed,
    StreamOpened,
)
from loader_service.protocol.ragged import assembled
from loader_service.protocol.shard import Shard, layout_of
from loader_service.protocol.spec import DatasetInfo
from loader_service.protocol.tables import TableRef

T = TypeVar("T")
Cycle = tuple[int, int] | None  # first and last number of batches that are gone over again and again


class Supply(Protocol):
    """Makes batches by number."""

    info: DatasetInfo
    shard: Shard
    doubts: list[str]  # what seems wrong with the user's code, in sentences
    latest: int  # the batch to join the foremost stream of the same dataset at

    @property
    def ledger(self) -> Ledger:
        """Samples that are replaced."""

    def refuse_fork(self) -> None:
        """Raise in a forked child of the process that opened the stream."""

    def take(self, n: int, cycle: Cycle) -> Batch:
        """Return batch `n`; the one after it will be asked for next, unless a later call says otherwise."""

    def take_several(self, n: int, most: int, cycle: Cycle) -> Bundle:
        """Return batch `n`, and up to `most` - 1 that follow it: those that are here without waiting."""

    def stats(self) -> dict[str, float]:
        """Return counts and seconds."""

    def close(self) -> None:
        """Ask for nothing any more; arrays that are alive stay as they are."""


class BundleFailed(Exception):
    """A bundle cannot be made: which of its batches is to blame, and why, is known when they come one by one."""


class SharedSupply:
    """Batches out of a daemon's slots."""

    def __init__(self, channel: Channel, dataset: Any, prefetch: int, shard: Shard, *, bundles: bool = False) -> None:
        """Open a stream.

        Args:
            prefetch: Batches to ask for ahead; 0 leaves it to the daemon, which knows how large they are.
            bundles: Whether small batches may come in bundles. `info` says whether they do: each is one batch here.
        Raises:
            DatasetError: If the dataset cannot be opened; the worker's own words.
            NotEnoughMemory: If two slots do not fit.
        """
        self._channel = channel
        self._prefetch = prefetch
        self._window = Window(prefetch)
        self._dataset = dataset
        self._asks_for_bundles = bundles
        self.shard = shard
        self.ledger = Ledger()
        self._loans: Loans | None = None  # of the last opening
        self._failure: LoaderError | None = None
        self._torn = False  # an exception came between us and the window: what it says may be wrong
        self._closing = self._drained = False
        self._opened: StreamOpened | None = None
        self._awaits_opening = True
        self._waited = self._longest = 0.0
        self._taken = self._copied = 0
        channel.refuse_fork()
        with channel.turn:
            self._number = channel.register(self)
            try:
                channel.wait(lambda: self._opened is not None or self._failure is not None, "the opened stream")
                if self._failure is not None:
                    raise self._failure
            except BaseException:
                channel.unregister(self._number)
                raise
        assert self._opened is not None, "waited for"
        self.info: DatasetInfo = self._opened.info
        self.doubts: list[str] = self._opened.doubts
        self.latest: int = self._opened.latest

    def refuse_fork(self) -> None:
        """Raise in a forked child: its sockets are its parent's."""
        self._channel.refuse_fork()

    def take(self, n: int, cycle: Cycle) -> Batch:
        """Return batch `n`, when it is there.

        Raises:
            SampleError, SpecMismatch: If a sample of it cannot be made.
            BundleFailed: If a sample of a bundle cannot be made.
            DaemonStopped: If the daemon was stopped.
            DaemonLost: If it died, and did not come back in time.
        """
        with self._channel.turn:
            self._come_to(n, cycle)
            arrived = self._good(self._window.take())
            self._taken += 1
            batch = Batch(n, n // self.info.batches_per_epoch, self._arrays(arrived))
            self._torn = False
            return batch

    def take_several(self, n: int, most: int, cycle: Cycle) -> Bundle:
        """Return batch `n`, when it is there, and up to `most` - 1 that follow and are there; raises as `take` does."""
        with self._channel.turn:
            self._come_to(n, cycle)
            half = max(1, self._window.prefetch // 2)  # of what it asks for: the others are made while these are used
            several = self._good(self._window.take_several(min(most, half)))
            self._taken += len(several)
            bundle = Bundle.of(n, self._lent.stack(several))
            self.flush()  # now, not by the sleepy thread, which would keep the trainer's from the interpreter
            self._torn = False
            return bundle

    def stats(self) -> dict[str, float]:
        """Return counts and seconds."""
        return {
            "batches": self._taken,
            "waited_seconds": self._waited,
            "longest_wait_seconds": self._longest,
            "copied_batches": self._copied,
            "ready_batches": self._window.waiting,
            "replaced_samples": len(self.ledger),
        }

    def close(self) -> None:
        """Ask for nothing any more; the stream is closed when its last array is gone. Safe in a finalizer."""
        self._closing = True
        self._channel.nudge()

    # -- what the channel calls, under its lock ----------------------------------------------------------------

    @property
    def arena(self) -> int | None:
        """The arena that its slots lie in, while it is open."""
        return self._opened.arena if self._opened and not self._awaits_opening else None

    @property
    def tables(self) -> Mapping[str, np.ndarray]:
        """The arrays that the dataset names, by hash."""
        return {} if isinstance(self._dataset, str) else self._dataset.tables

    def open(self) -> None:
        """Open the stream with a daemon that does not know it: the first time, and whenever it came back."""
        self._awaits_opening = True
        try:
            for table, array in self.tables.items():
                self._channel.share_table(TableRef(table, array.dtype.name, array.shape), array)
        except LoaderError as error:
            self._failure = error
            return
        declared = self._dataset if isinstance(self._dataset, str) else self._dataset.to_dict()
        self._channel.send(OpenStream(self._number, declared, self._prefetch, self.shard, self._asks_for_bundles))

    def receive(self, message: Any) -> None:
        """Take a message in."""
        match message:
            case BatchesReady():
                for n, slot, rows in message.batches:
                    if not self._window.arrived(message.round, n, slot, rows) and message.round == self._window.round:
                        self._lent.decline(slot)
            case BatchFailed():
                self._window.failed(message.round, message.n, message.error)
            case SamplesReplaced():
                tell_replaced(self.ledger.add(message.samples))
            case StreamOpened():
                self._take_opened(message)
            case StreamFailed():
                self._failure = error_of(message.error)

    def flush(self) -> None:
        """Return slots, and ask for batches."""
        if self._closing:
            self._flush_last()
            return
        if self._awaits_opening or self._failure is not None or self._channel.is_lost:
            return
        ranges = self._window.ask() if self._torn else []  # only while somebody waits in `take`
        if self._torn and not ranges and self._lent.returned < self._lent.hold_back:
            return  # they go with the next request, or soon, by the sleepy thread
        slots = self._lent.pop_returned()
        for first, last in ranges:
            self._channel.send(RequestBatches(self._number, first, last, slots))
            slots = []
        if slots:
            self._channel.send(ReturnSlots(self._number, slots))

    def _flush_last(self) -> None:
        """Give back at once what nobody has looked at, then each slot when it is let go of, then the stream."""
        if self._awaits_opening or self._failure is not None or self._channel.is_lost:
            ended = True  # nobody lends us anything
        else:
            slots = self._lent.pop_returned()
            ended = not self._lent.held
            if ended:
                self._channel.send(CloseStream(self._number))
            elif not self._drained:
                self._reset(0, None)
            elif slots:
                self._channel.send(ReturnSlots(self._number, slots))
        self._drained = True
        if ended:
            # Frameworks keep closures over a stream for as long as the process lives: do not keep its memory, too.
            self._loans = self._dataset = None
            self._channel.unregister(self._number)

    # -- within ----------------------------------------------------------------------------------------------

    @property
    def _lent(self) -> Loans:
        assert self._loans is not None, "there are loans from the first opening until the end"
        return self._loans

    def _take_opened(self, opened: StreamOpened) -> None:
        """The daemon has opened the stream; if it died meanwhile, it is another daemon, or another dataset."""
        known, self._opened = self._opened, opened
        self._awaits_opening = False
        now = opened.info
        if known is not None and not now.live and (known.info.key, known.info.bundle) != (now.key, now.bundle):
            self._failure = DatasetError(
                "the daemon has died and come back, and the dataset is another one now: its files, or the code that "
                f"it names, have changed (key {known.info.key!r}, now {now.key!r}). Open a new stream."
            )
            return
        self._window.prefetch = opened.prefetch
        layout = layout_of(opened.info, self.shard)
        self._loans = Loans(
            SlotReader(self._channel.arenas[opened.arena], layout, opened.info.spec),
            opened.views,
            hold_back=max(1, opened.prefetch // 4),  # one message returns some slots at once
            nudge=self._channel.nudge,
        )
        if known is not None:
            self._reset(self._window.next, self._window.cycle)

    def _come_to(self, n: int, cycle: Cycle) -> None:
        """Wait until batch `n` is next, and there, or its error: until that is taken, the window is torn."""
        if self._torn or not self._window.is_at(n, cycle):
            self._reset(n, cycle)
        self._torn = True
        waited = self._wait(n)
        self._waited += waited
        self._longest = max(self._longest, waited)

    def _good(self, taken: T | Failed) -> T:
        """Return what was taken; raise it, if it is an error."""
        if isinstance(taken, Failed):
            self._torn = False
            raise BundleFailed if self.info.bundle > 1 else error_of(taken)
        return taken

    def _wait(self, n: int) -> float:
        """Wait for batch `n`. Return the seconds that it took."""
        if self._window.ready and not self._window.due:
            return 0.0  # it is here, and nothing is worth a message yet
        waited = self._channel.wait(self._is_settled, f"batch {n}")
        if self._failure is not None:
            raise copy(self._failure)
        return waited

    def _arrays(self, arrived: Arrived) -> dict[str, Any]:
        """Return views of a slot, or copies where too many views are alive already."""
        if self._lent.is_full:
            self._copied += 1
            return self._lent.copy(arrived)
        return self._lent.view(arrived)

    def _is_settled(self) -> bool:
        return self._window.ready or self._failure is not None

    def _reset(self, n: int, cycle: Cycle) -> None:
        self._window.reset(n, cycle)
        if self._awaits_opening or self._channel.is_lost:
            return  # whoever opens the stream anew begins here
        self._lent.pop_returned()
        self._channel.send(ResetStream(self._number, self._window.round, self._lent.held))


class InlineSupply:
    """Batches made here and now, in this process: for breakpoints, and to see what a worker would do."""

    def __init__(self, dataset: Any, shard: Shard) -> None:
        """Open the dataset in this process."""
        plan = dataset.plan
        self._plan = plan
        self.shard = shard
        self.ledger: Ledger = plan.ledger
        self._told = 0  # samples of it
        self._taken = 0
        self._seconds = 0.0
        self.info: DatasetInfo = plan.info
        self.doubts: list[str] = plan.doubts()
        self.latest = 0
        shard.check(self.info)
        self._tell()

    def refuse_fork(self) -> None:
        """A copy of this process makes the same batches: nothing is refused."""

    def take(self, n: int, cycle: Cycle) -> Batch:
        """Make batch `n`."""
        began = time.perf_counter()
        arrays: dict[str, np.ndarray] = self._plan.compute(n, self.shard)
        self._tell()
        for array in arrays.values():
            array.flags.writeable = False
        self._seconds += time.perf_counter() - began
        self._taken += 1
        return Batch(n, n // self.info.batches_per_epoch, assembled(arrays, self.info.spec))

    def take_several(self, n: int, most: int, cycle: Cycle) -> Bundle:
        """Make batch `n`: none is here without waiting."""
        batch = self.take(n, cycle)
        return Bundle(n, {name: batch[name][None] for name in batch}, batch.ids[None])

    def stats(self) -> dict[str, float]:
        """Return counts and seconds: all of the making is waiting."""
        return {
            "batches": self._taken,
            "waited_seconds": self._seconds,
            "copied_batches": 0,
            "ready_batches": 0,
            "replaced_samples": len(self.ledger),
        }

    def _tell(self) -> None:
        if len(self.ledger) > self._told:
            tell_replaced(list(self.ledger)[self._told :])
            self._told = len(self.ledger)

    def close(self) -> None:
        """There is nothing to close."""
