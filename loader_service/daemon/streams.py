"""Who asked for which batch, which slot holds it, who still reads it. Rules only: no I/O, no clock.

    FREE -claim-> FILLING -filled-> READY -claim-> FILLING (when its memory is needed and nobody reads it)
                     `---failed---> FREE
                     `-overtaken--> VOID -its writers have ended-> FREE

A batch is asked for by number. If a slot holds it, it is lent; if one is being filled with it, the stream waits for
that; otherwise the number queues for a slot, and the slot for rows. So streams that ask for the same batch get the
same slot. A ready slot that nobody reads stays until its memory is needed: first those behind every stream, the last
one that was returned first, since it is still in the processor's cache; then those that some stream has still ahead.
Where batches may go beyond their slots, it is the first one that was returned: each slot comes round, and what lies
beyond it is given back.

A batch whose rows are late may be filled into a second slot: the first of the two that is complete is lent, and the
other one comes back when nobody writes into it any more.

Every stream has a share: how many batches it may ask ahead, and how many it may keep as views. The shares of all
streams together are no more than the slots, so one that holds on to all that it may keeps nobody else waiting.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.messages import Failed
from loader_service.protocol.prefetch import VIEWS

StreamId = tuple[bytes, int]  # the client's identity, and its own number for the stream
FEW = 4  # slots that are not worth being shared out
TOLD = 4  # slots that an error names


class SlotState(Enum):
    """Whether a slot's bytes mean anything, and whether anybody writes them. See the drawing above."""

    FREE, FILLING, READY, VOID = "free", "filling", "ready", "void"


class Fill(NamedTuple):
    """Instruction: have batch `n` made in this slot."""

    slot: int
    n: int


class Lend(NamedTuple):
    """Instruction: tell the stream that batch `n` is in this slot, which is its until it returns it."""

    stream: StreamId
    slot: int
    n: int


class Fail(NamedTuple):
    """Instruction: tell the stream that batch `n` cannot be made."""

    stream: StreamId
    n: int
    error: Failed


Instruction = Fill | Lend | Fail


@dataclass(eq=False)
class _Slot:
    number: int
    state: SlotState = SlotState.FREE
    n: int = -1  # the batch that it holds or is being filled with
    loans: int = 0  # readings that have not ended; one stream may read a slot twice at a time
    rival: _Slot | None = None  # another one that is being filled with the same batch


@dataclass(frozen=True)
class Share:
    """How many slots one stream may hold."""

    prefetch: int  # batches that it asks ahead
    views: int  # batches that are alive as views; it copies the others

    @property
    def slots(self) -> int:
        """All of them."""
        return self.prefetch + self.views


@dataclass(eq=False)
class _Reader:
    share: Share
    first: int | None = None  # the batch that it asked for first, since it was opened or reset
    front: int = -1  # the last batch that it asked for
    waits_for: set[int] = field(default_factory=set)
    asked: deque[int] = field(default_factory=deque)  # in this order; from the first one on that it waits for
    patient: bool = True  # until one cannot be made: what it wants first is not known from then on
    lent: dict[int, int] = field(default_factory=dict)  # slot -> how many times; not a Counter, which is slow at it

    def has_had(self, n: int) -> bool:
        """Whether a batch was lent to it."""
        return self.first is not None and self.first <= n <= self.front and n not in self.waits_for


class Shelf:
    """The slots of one dataset key, and the streams that read them."""

    def __init__(self, slots: int, *, come_round: bool = False) -> None:
        self._come_round = come_round
        self._slots = [_Slot(number) for number in range(slots)]
        self._free = deque(self._slots)
        self._unread: dict[int, _Slot] = {}  # n -> a ready slot without a reader, in the order of its last return
        self._by_n: dict[int, _Slot] = {}
        self._waiters: dict[int, dict[StreamId, None]] = {}  # n -> who gets it when it is ready, in order
        self._queue: deque[int] = deque()  # numbers that wait for a slot
        self._readers: dict[StreamId, _Reader] = {}
        self.made = 0  # batches
        self.shared = 0  # batches lent to one more stream than they were made for
        self.made_again = 0  # batches that another stream has had: this one is too far behind to share

    # -- streams ---------------------------------------------------------------------------------------------

    @property
    def streams(self) -> list[StreamId]:
        """Those that read here."""
        return list(self._readers)

    @property
    def unspoken(self) -> int:
        """How many slots are in nobody's share."""
        return len(self._slots) - sum(reader.share.slots for reader in self._readers.values())

    def latest(self) -> int:
        """Return where to join the foremost stream: the oldest batch that it may still have ahead."""
        reading = (reader for reader in self._readers.values() if reader.first is not None)
        return max([0, *(reader.front + 1 - reader.share.prefetch for reader in reading)])

    def grow(self, slots: int) -> None:
        """There are so many slots now."""
        more = [_Slot(number) for number in range(len(self._slots), slots)]
        self._slots += more
        self._free += more

    def offer(self, prefetch: int) -> Share:
        """Return the share of a stream that would like to ask so far ahead; there is a slot that is unspoken."""
        share = Share(prefetch, VIEWS)
        if share.slots <= self.unspoken:
            return share
        room = max(min(self.unspoken, FEW), self.unspoken // 2)  # memory is short: another stream may want the rest
        views = min(VIEWS, room // 2)
        return Share(min(prefetch, room - views), views)

    def open(self, stream: StreamId, share: Share) -> None:
        """Let a stream in."""
        self._readers[stream] = _Reader(share)

    def close(self, stream: StreamId) -> list[Instruction]:
        """The stream is gone, or its client: take back what it was lent."""
        reader = self._readers.pop(stream, None)
        if reader is None:
            return []
        for n in reader.waits_for:
            self._waiters[n].pop(stream)
        self._take_back(reader, reader.lent.copy())
        return self._claim()

    def request(self, stream: StreamId, numbers: Iterable[int]) -> list[Instruction]:
        """The stream wants these batches; one that it waits for already is not wanted twice.

        Raises:
            ProtocolError: If these, and what it has, are more than its share: they would be others' slots.
        """
        reader = self._reader(stream)
        numbers = list(numbers)
        holds = sum(reader.lent.values()) + len(reader.waits_for.union(numbers))
        if holds > reader.share.slots:
            raise ProtocolError(f"a stream that may have {reader.share.slots} batches would have {holds} of them")
        told: list[Instruction] = []
        reader.asked += numbers
        for n in numbers:
            reader.first, reader.front = n if reader.first is None else reader.first, n
            slot = self._by_n.get(n)
            if slot is not None and slot.state is SlotState.READY:
                self.shared += 1
                told.append(self._lend(slot, stream))
                continue
            if slot is None and not self._waiters.get(n):
                self._queue.append(n)
            self._waiters.setdefault(n, {})[stream] = None
            reader.waits_for.add(n)
        return told + self._claim()

    def reset(self, stream: StreamId, keeps: Iterable[int]) -> list[Instruction]:
        """The stream wants nothing that it waits for, and has only the slots `keeps`.

        Raises:
            ProtocolError: If one of them is not lent to it.
        """
        reader = self._reader(stream)
        kept = Counter(keeps)
        if wrong := _not_lent(reader, kept):
            raise ProtocolError(f"slots {wrong[:TOLD]} are kept by a stream that they are not lent to")
        for n in reader.waits_for:
            self._waiters[n].pop(stream)
        reader.waits_for.clear()
        reader.asked.clear()
        reader.patient = True
        self._take_back(reader, Counter(reader.lent) - kept)
        reader.first = None
        return self._claim()

    def returned(self, stream: StreamId, slots: Iterable[int]) -> list[Instruction]:
        """The stream has let go of these slots.

        Raises:
            ProtocolError: If one of them is not lent to it; then none is taken back.
        """
        reader = self._reader(stream)
        given = Counter(slots)
        if wrong := _not_lent(reader, given):
            raise ProtocolError(f"slots {wrong[:TOLD]} were returned by a stream that they are not lent to")
        self._take_back(reader, given)
        return self._claim()

    def gets_on(self, stream: StreamId) -> bool:
        """Whether the batch that a stream asked for first has come, since this was asked last.

        If not, it can do nothing with others that have.
        """
        reader = self._reader(stream)
        before = len(reader.asked)
        while reader.asked and reader.asked[0] not in reader.waits_for:
            reader.asked.popleft()
        return len(reader.asked) < before or not reader.patient

    # -- the pool --------------------------------------------------------------------------------------------

    def second(self, number: int) -> Fill | None:
        """A slot's rows are late: have its batch made in another one as well, if it is wanted and there is one."""
        slot = self._slots[number]
        if slot.state is not SlotState.FILLING or slot.rival is not None or not self._waiters.get(slot.n):
            return None
        other = self._spare()
        if other is None:
            return None
        other.state, other.n = SlotState.FILLING, slot.n
        slot.rival, other.rival = other, slot
        return Fill(other.number, other.n)

    def filled(self, number: int) -> list[Instruction]:
        """All rows of a slot are written: lend it to those who wait."""
        slot = self._slots[number]
        if slot.state is SlotState.VOID:
            return self._vacate(slot)
        rival, slot.rival = slot.rival, None
        if rival is not None:
            rival.state, rival.rival = SlotState.VOID, None
        slot.state = SlotState.READY
        self._by_n[slot.n] = slot
        self.made += 1
        waiters = self._waiters.pop(slot.n, {})
        self.shared += max(0, len(waiters) - 1)
        told: list[Instruction] = []
        for stream in waiters:
            self._readers[stream].waits_for.discard(slot.n)
            told.append(self._lend(slot, stream))
        if not slot.loans:
            self._unread[slot.n] = slot
        return told + self._claim()

    def failed(self, number: int, error: Failed) -> list[Instruction]:
        """The rows of a slot cannot be made, and nobody writes into it any more: tell those who wait.

        If its batch is being made in another slot as well, what becomes of that one is told.
        """
        slot = self._slots[number]
        rival, slot.rival = slot.rival, None
        if slot.state is SlotState.VOID:
            return self._vacate(slot)
        if rival is not None:
            rival.rival = None
            self._by_n[slot.n] = rival
            return self._vacate(slot)
        told: list[Instruction] = []
        for stream in self._waiters.pop(slot.n, {}):
            self._readers[stream].waits_for.discard(slot.n)
            self._readers[stream].patient = False
            told.append(Fail(stream, slot.n, error))
        del self._by_n[slot.n]
        return told + self._vacate(slot)

    def counts(self) -> dict[str, int]:
        """Return how many slots are free, being filled, ready and unread, and lent."""
        filling = sum(slot.state in (SlotState.FILLING, SlotState.VOID) for slot in self._slots)
        free, unread = len(self._free), len(self._unread)
        return {
            "free": free,
            "filling": filling,
            "unread": unread,
            "lent": len(self._slots) - free - filling - unread,
        }

    def reader_counts(self, stream: StreamId) -> dict[str, int]:
        """Return how many batches a stream waits for, and how many slots it holds."""
        reader = self._reader(stream)
        return {"waits_for": len(reader.waits_for), "holds": sum(reader.lent.values())}

    # -- within ----------------------------------------------------------------------------------------------

    def _reader(self, stream: StreamId) -> _Reader:
        if stream not in self._readers:
            raise ProtocolError(f"stream {stream[1]} is not open")
        return self._readers[stream]

    def _lend(self, slot: _Slot, stream: StreamId) -> Lend:
        slot.loans += 1
        self._unread.pop(slot.n, None)
        lent = self._readers[stream].lent
        lent[slot.number] = lent.get(slot.number, 0) + 1
        return Lend(stream, slot.number, slot.n)

    def _take_back(self, reader: _Reader, given: Mapping[int, int]) -> None:
        """A reader lets go of slots, each so many times; all are lent to it."""
        for number, times in given.items():
            left = reader.lent.pop(number) - times
            if left:
                reader.lent[number] = left
            self._unlend(self._slots[number], times)

    def _unlend(self, slot: _Slot, times: int) -> None:
        slot.loans -= times
        if not slot.loans:
            self._unread[slot.n] = slot

    def _vacate(self, slot: _Slot) -> list[Instruction]:
        slot.state, slot.n = SlotState.FREE, -1
        self._free.append(slot)
        return self._claim()

    def _claim(self) -> list[Instruction]:
        """Give slots to the numbers that queue for one, oldest first."""
        told: list[Instruction] = []
        while self._queue:
            n = self._queue[0]
            if not self._waiters.get(n) or n in self._by_n:  # forgotten meanwhile; or asked for again, and served
                if n not in self._by_n:
                    self._waiters.pop(n, None)
                self._queue.popleft()
                continue
            slot = self._spare()
            if slot is None:
                break
            self._queue.popleft()
            slot.state, slot.n = SlotState.FILLING, n
            self._by_n[n] = slot
            self.made_again += any(reader.has_had(n) for reader in self._readers.values())
            told.append(Fill(slot.number, n))
        return told

    def _spare(self) -> _Slot | None:
        """Return a slot whose bytes nobody needs; the least needed one."""
        if self._free:
            return self._free.popleft()
        if not self._unread:
            return None
        hindmost = min((reader.front for reader in self._readers.values()), default=math.inf)
        unread = self._unread if self._come_round else reversed(self._unread)
        behind = (n for n in unread if n <= hindmost)
        slot = self._unread.pop(next(behind, next(iter(self._unread))))
        del self._by_n[slot.n]
        return slot


def _not_lent(reader: _Reader, slots: Mapping[int, int]) -> list[int]:
    """Return those of some slots, each named so many times, that are not lent to a reader so often."""
    return sorted(number for number, times in slots.items() if times > reader.lent.get(number, 0))
