"""Mistakes in the shelf's rules are found by its state machine."""

import pytest

from loader_service.daemon.streams import Lend, Shelf, SlotState
from tests.daemon.test_streams import AnyHistory
from tests.mutations import assert_found

right = vars(Shelf).copy()


def refills_a_slot_that_one_of_two_has_returned(self, slot):
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
    return right["reset"](self, stream, list(self._readers[stream].lent.elements()))


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
    ("request", makes_a_batch_for_each_who_asks),
]


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_shelf_is_found_out_that(rule, mistake):
    assert_found(AnyHistory, Shelf, lambda patch: patch.setattr(Shelf, rule, mistake))
