"""Mistakes in the window's rules are found by its state machine."""

import pytest

from loader_client.connection import Arrived, Window
from tests.client.test_connection import AnyHistory
from tests.mutations import assert_found

right = vars(Window).copy()


def reads_what_was_lent_before_a_reset(self, round_, n, slot, rows):
    return right["arrived"](self, self.round, n, slot, rows)


def takes_a_batch_that_was_delivered_twice(self, round_, n, slot, rows):
    known = self._asked.get(n)
    accepted = right["arrived"](self, round_, n, slot, rows)
    if not accepted and round_ == self.round and isinstance(known, Arrived):
        self._asked[n] = Arrived(slot, rows)
        return True
    return accepted


def skips_a_batch_that_failed(self):
    what = right["take"](self)
    if not isinstance(what, Arrived):
        self.next = self._after(self.next)
    return what


def forgets_that_passes_begin_again(self, n):
    return n + 1


def asks_again_for_what_is_under_way(self):
    if self.due:
        self._asked = {n: what for n, what in self._asked.items() if what is not None}
    return right["ask"](self)


def keeps_what_a_reset_made_void(self, n, cycle=None):
    asked = dict(self._asked)
    right["reset"](self, n, cycle)
    self._asked = asked


MISTAKES = [
    ("arrived", reads_what_was_lent_before_a_reset),
    ("arrived", takes_a_batch_that_was_delivered_twice),
    ("take", skips_a_batch_that_failed),
    ("_after", forgets_that_passes_begin_again),
    ("ask", asks_again_for_what_is_under_way),
    ("reset", keeps_what_a_reset_made_void),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_window_is_found_out_that(rule, mistake):
    assert_found(AnyHistory, Window, lambda patch: patch.setattr(Window, rule, mistake))
