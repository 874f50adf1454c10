"""Mistakes in the client's rules are found by the machine in which they talk with the daemon's."""

import pytest

from loader_client.connection import Arrived, Window
from loader_client.loans import Loans
from tests.client.test_conversation import AnyConversation
from tests.mutations import assert_found

window, loans = vars(Window).copy(), vars(Loans).copy()


def does_not_count_resets(self, n, cycle=None):
    window["reset"](self, n, cycle)
    self.round = 0


def asks_again_for_what_is_here(self):
    here = [n for n, what in self._asked.items() if isinstance(what, Arrived)]
    return window["ask"](self) + [(n, n) for n in here]


def asks_for_more_than_its_share(self, prefetch):
    window["__init__"](self, prefetch + 3)


def skips_a_batch(self, n):
    return window["_after"](self, n) + (n == 3)


def forgets_an_error(self, round_, n, error):
    pass


def returns_a_slot_under_an_array(self, arrived):
    arrays = self._slots.view(arrived.slot, arrived.rows, lambda: None)
    self.decline(arrived.slot)
    return arrays


def drops_a_return(self):
    return loans["pop_returned"](self)[1:]


def returns_twice(self):
    return loans["pop_returned"](self) * 2


def forgets_at_a_reset_what_it_holds(self):
    return []


def keeps_as_many_views_as_it_likes(self):
    return False


def keeps_the_slot_of_a_copy(self, arrived):
    return self._slots.copy(arrived.slot, arrived.rows)


MISTAKES = [
    (Window, "reset", does_not_count_resets),
    (Window, "ask", asks_again_for_what_is_here),
    (Window, "__init__", asks_for_more_than_its_share),
    (Window, "_after", skips_a_batch),
    (Window, "failed", forgets_an_error),
    (Loans, "view", returns_a_slot_under_an_array),
    (Loans, "pop_returned", drops_a_return),
    (Loans, "pop_returned", returns_twice),
    (Loans, "held", property(forgets_at_a_reset_what_it_holds)),
    (Loans, "is_full", property(keeps_as_many_views_as_it_likes)),
    (Loans, "copy", keeps_the_slot_of_a_copy),
]


def name_of(mistake):
    return getattr(mistake, "fget", mistake).__name__


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "rule", "mistake"), MISTAKES, ids=[name_of(mistake) for *_, mistake in MISTAKES])
def test_a_client_is_found_out_that(rules, rule, mistake):
    assert_found(AnyConversation, rules, lambda patch: patch.setattr(rules, rule, mistake))
