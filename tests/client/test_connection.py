"""The client's window: what is asked for, in which order it is handed out, what a reset voids."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loader_client.connection import Arrived, Window
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import SampleError

OOPS = failed(SampleError("oops"))


def numbers(ranges):
    return [n for first, last in ranges for n in range(first, last + 1)]


def test_the_whole_window_is_asked_for_at_first():
    assert Window(prefetch=8).ask() == [(0, 7)]


def test_nothing_more_is_asked_for_until_a_quarter_of_the_window_is_open():
    """One message for some batches, not one for each."""
    window = Window(prefetch=8)
    window.ask()
    for n in range(2):
        window.arrived(0, n, slot=n, rows=1)

    window.take()
    assert window.ask() == []
    window.take()

    assert window.ask() == [(8, 9)]


def test_batches_are_handed_out_in_order_however_they_arrive():
    window = Window(prefetch=3)
    window.ask()
    window.arrived(0, 2, slot=12, rows=5)
    window.arrived(0, 1, slot=11, rows=5)

    assert not window.ready
    window.arrived(0, 0, slot=10, rows=5)

    assert [window.take() for _ in range(3)] == [Arrived(10, 5), Arrived(11, 5), Arrived(12, 5)]


def test_a_batch_delivered_twice_is_refused_the_second_time():
    window = Window(prefetch=2)
    window.ask()

    assert window.arrived(0, 0, slot=1, rows=1)
    assert not window.arrived(0, 0, slot=2, rows=1)


def test_what_was_lent_before_a_reset_is_ignored():
    """The daemon has taken its slot back: it may be refilled at any moment."""
    window = Window(prefetch=2)
    window.ask()
    window.reset(0)
    window.ask()

    assert not window.arrived(0, 0, slot=1, rows=1)
    assert window.arrived(1, 0, slot=2, rows=1)


def test_an_error_waits_for_its_turn_and_asking_again_tries_again():
    window = Window(prefetch=2)
    window.ask()
    window.failed(0, 1, OOPS)
    assert not window.ready
    window.arrived(0, 0, slot=0, rows=1)

    assert window.take() == Arrived(0, 1)
    assert window.take() == OOPS
    assert numbers(window.ask()) == [1, 2]


def test_batches_of_as_many_rows_are_taken_at_once():
    window = Window(prefetch=6)
    window.ask()
    for n, rows in enumerate([4, 4, 4, 3, 4]):
        window.arrived(0, n, slot=n, rows=rows)

    assert window.take_several(2) == [Arrived(0, 4), Arrived(1, 4)]
    assert window.take_several(9) == [Arrived(2, 4)]
    assert window.take_several(9) == [Arrived(3, 3)]
    assert window.take_several(9) == [Arrived(4, 4)]
    assert not window.ready


def test_a_cycle_asks_for_its_first_batch_after_its_last():
    window = Window(prefetch=4)
    window.reset(3, cycle=(0, 4))

    assert window.ask() == [(3, 4), (0, 1)]


def test_a_cycle_shorter_than_the_window_is_asked_for_once_a_pass():
    window = Window(prefetch=8)
    window.reset(0, cycle=(0, 2))

    assert window.ask() == [(0, 2)]
    window.arrived(1, 0, slot=0, rows=1)
    window.take()
    assert window.ask() == [(0, 0)]
    assert window.ask() == []


@given(
    prefetch=st.integers(1, 12),
    start=st.integers(0, 20),
    order=st.lists(st.integers(0, 10**6), min_size=60, max_size=60),
    cycle=st.none() | st.tuples(st.integers(0, 5), st.integers(5, 9)),
)
def test_every_number_comes_once_and_in_order_whatever_the_daemon_does(prefetch, start, order, cycle):
    window = Window(prefetch)
    begin = cycle[0] if cycle else start
    window.reset(begin, cycle)
    asked, taken = [], []
    for pick in order:
        asked += numbers(window.ask())
        assert len(asked) <= prefetch
        n = asked.pop(pick % len(asked)) if asked else None
        if n is not None:
            assert window.arrived(window.round, n, slot=n, rows=1)
        while window.ready:
            taken.append(window.take().slot)

    period = cycle[1] - cycle[0] + 1 if cycle else None
    expected = [begin + (i % period if period else i) for i in range(len(taken))]
    assert taken == expected
    assert len(taken) > 0


class AnyHistory(RuleBasedStateMachine):
    """Any daemon: it answers in any order, twice, late, with errors, or dies; and any reader, who jumps about."""

    def __init__(self):
        super().__init__()
        self.window = Window(prefetch=4)
        self.asked = []  # numbers of this round that the daemon has yet to answer
        self.delivered = {}  # n -> what was delivered and not taken yet
        self.old = []  # (round, n) of earlier rounds, and of answers given already
        self.slots = iter(range(10**6))
        self.next, self.cycle = 0, None

    @rule()
    def ask(self):
        fresh = numbers(self.window.ask())
        assert not set(fresh) & (set(self.asked) | set(self.delivered)), "asked twice"
        self.asked += fresh
        assert len(self.asked) + len(self.delivered) <= 4, "more than the window"
        assert self.next in self.asked or self.next in self.delivered, "what is next is not asked for"

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), good=st.booleans())
    def answer(self, data, good):
        n = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        self.old.append((self.window.round, n))
        if good:
            self.delivered[n] = Arrived(next(self.slots), 1)
            assert self.window.arrived(self.window.round, n, self.delivered[n].slot, 1)
        else:
            self.delivered[n] = OOPS
            self.window.failed(self.window.round, n, OOPS)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def answer_again(self, data):
        round_, n = data.draw(st.sampled_from(self.old))
        if round_ == self.window.round and n in self.asked:
            return  # it was taken, and asked for anew
        assert not self.window.arrived(round_, n, next(self.slots), 1), "a slot that is not ours is read"

    @precondition(lambda self: self.window.ready)
    @rule()
    def take(self):
        expected = self.delivered.pop(self.next)
        assert self.window.take() == expected, "out of order"
        if isinstance(expected, Arrived):
            last = self.cycle is not None and self.next == self.cycle[1]
            self.next = self.cycle[0] if last else self.next + 1

    @precondition(lambda self: self.window.ready)
    @rule(most=st.integers(1, 5))
    def take_several(self, most):
        expected, after = [], self.next
        while len(expected) < most and isinstance(self.delivered.get(after), Arrived):
            expected.append(self.delivered.pop(after))
            after = self.cycle[0] if self.cycle is not None and after == self.cycle[1] else after + 1
        assert self.window.take_several(most) == (expected or self.delivered.pop(self.next))
        self.next = after

    @rule(n=st.integers(0, 9), cycle=st.none() | st.tuples(st.integers(0, 3), st.integers(5, 9)))
    def jump(self, n, cycle):
        n = max(cycle[0], min(n, cycle[1])) if cycle else n
        self.old += [(self.window.round, asked) for asked in self.asked]
        self.window.reset(n, cycle)
        self.next, self.cycle = n, cycle
        self.asked, self.delivered = [], {}

    @invariant()
    def ready_is_what_is_next(self):
        assert self.window.ready == (self.next in self.delivered)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
