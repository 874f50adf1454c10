"""Mistakes in the shelf's rules are found by its state machine."""

from collections import Counter

import pytest

from loader_service.daemon.streams import Fail, Lend, Share, Shelf, SlotState
from loader_service.protocol.errors import ProtocolError
from tests.daemon.test_streams import AnyHistory
from tests.mutations import assert_found

right = vars(Shelf).copy()


def refills_a_slot_that_one_of_two_has_returned(self, slot, times):
    slot.loans = 0
    self._unread[slot.n] = slot


def forgets_what_is_returned(self, stream, slots):
    return self._claim()


def forgets_what_a_dead_client_held(self, stream):
    reader = self._readers.get(stream)
    if reader is not None:
        reader.lent.clear()
    return right["close"](self, stream)


def forgets_what_a_reset_takes_back(self, stream, keeps):
    return right["reset"](self, stream, list(Counter(self._readers[stream].lent).elements()))


def answers_only_one_of_those_who_wait(self, number):
    told = right["filled"](self, number)
    lends = [instruction for instruction in told if isinstance(instruction, Lend)]
    return [instruction for instruction in told if instruction not in lends[1:]]


def takes_a_slot_that_is_lent(self):
    spare = right["_spare"](self)
    if spare is not None:
        return spare
    slot = next((slot for slot in self._slots if slot.state is SlotState.READY), None)
    if slot is not None:
        self._by_n.pop(slot.n, None)
        slot.loans = 0
    return slot


def refills_a_slot_that_a_late_worker_writes_to(self, number):
    rival = self._slots[number].rival
    told = right["filled"](self, number)
    if rival is not None and rival.state is SlotState.VOID:
        told += self._vacate(rival)
    return told


def fails_a_batch_that_is_being_made_in_another_slot(self, number, error):
    slot = self._slots[number]
    if slot.rival is not None:
        slot.rival.rival, slot.rival = None, None
    return right["failed"](self, number, error)


def forgets_a_failed_slot(self, number, error):
    told = right["failed"](self, number, error)
    if self._free:
        self._free.pop()
    return told


def makes_a_batch_for_each_who_asks(self, stream, numbers):
    told = right["request"](self, stream, numbers)
    for n in numbers:
        self._queue.append(n)
        self._by_n.pop(n, None)
    return told + self._claim()


def takes_back_what_was_not_lent(self, stream, slots):
    return right["returned"](self, stream, (Counter(slots) & Counter(self._readers[stream].lent)).elements())


def takes_back_the_right_ones_and_then_refuses(self, stream, slots):
    """What it claims for others meanwhile is told to nobody."""
    given = Counter(slots) & Counter(self._readers[stream].lent)
    told = right["returned"](self, stream, given.elements())
    if given != Counter(slots):
        raise ProtocolError("some slots are not lent to it")
    return told


def finds_a_slot_by_what_it_held_before(self):
    before = dict(self._by_n)
    slot = right["_spare"](self)
    self._by_n = before
    return slot


def lends_before_it_is_filled(self, stream, numbers):
    for slot in self._slots:
        if slot.state is SlotState.FILLING:
            slot.state = SlotState.READY
    return right["request"](self, stream, numbers)


def lends_twice(self, number):
    told = right["filled"](self, number)
    return told + [instruction for instruction in told if isinstance(instruction, Lend)]


def forgets_who_waits_where_no_slot_is_free(self, stream, numbers):
    told = right["request"](self, stream, numbers)
    self._queue.clear()
    return told


def is_silent_about_a_failure(self, number, error):
    return [instruction for instruction in right["failed"](self, number, error) if not isinstance(instruction, Fail)]


def lends_to_the_dead(self, stream):
    reader = self._readers[stream]
    told = right["close"](self, stream)
    for n in reader.waits_for:
        self._waiters[n][stream] = None
        self._readers[stream] = reader
    return told


def goes_on_with_what_a_reset_made_void(self, stream, keeps):
    before = set(self._readers[stream].waits_for)
    told = right["reset"](self, stream, keeps)
    for n in before:
        self._waiters.setdefault(n, {})[stream] = None
    return told


def takes_back_what_a_reset_keeps(self, stream, keeps):
    return right["reset"](self, stream, [])


def gives_one_stream_the_slots_of_all(self, stream, share):
    right["open"](self, stream, Share(1000, 0))


MISTAKES = [
    ("_unlend", refills_a_slot_that_one_of_two_has_returned),
    ("returned", forgets_what_is_returned),
    ("close", forgets_what_a_dead_client_held),
    ("reset", forgets_what_a_reset_takes_back),
    ("filled", answers_only_one_of_those_who_wait),
    ("_spare", takes_a_slot_that_is_lent),
    ("filled", refills_a_slot_that_a_late_worker_writes_to),
    ("failed", fails_a_batch_that_is_being_made_in_another_slot),
    ("failed", forgets_a_failed_slot),
    ("returned", takes_back_what_was_not_lent),
    ("returned", takes_back_the_right_ones_and_then_refuses),
    ("_spare", finds_a_slot_by_what_it_held_before),
    ("request", lends_before_it_is_filled),
    ("filled", lends_twice),
    ("request", forgets_who_waits_where_no_slot_is_free),
    ("failed", is_silent_about_a_failure),
    ("close", lends_to_the_dead),
    ("reset", goes_on_with_what_a_reset_made_void),
    ("reset", takes_back_what_a_reset_keeps),
    ("open", gives_one_stream_the_slots_of_all),
    ("request", makes_a_batch_for_each_who_asks),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_shelf_is_found_out_that(rule, mistake):
    assert_found(AnyHistory, Shelf, lambda patch: patch.setattr(Shelf, rule, mistake))
