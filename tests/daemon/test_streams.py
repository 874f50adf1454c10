"""Who gets which slot: streams share batches, a lent slot is never refilled, no request is forgotten."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loader_service.daemon.streams import Fail, Fill, Lend, Share, Shelf
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import ProtocolError, SampleError
from loader_service.protocol.prefetch import VIEWS

A, B = (b"a" * 16, 0), (b"b" * 16, 0)
OOPS = failed(SampleError("oops"))
SHARE = Share(prefetch=4, views=2)


def shelf_of(slots, *streams):
    shelf = Shelf(slots)
    for stream in streams:
        shelf.open(stream, SHARE)
    return shelf


def test_a_number_gets_a_slot_and_its_stream_gets_the_slot_when_it_is_filled():
    shelf = shelf_of(2, A)

    assert shelf.request(A, [5]) == [Fill(0, 5)]
    assert shelf.filled(0) == [Lend(A, 0, 5)]


def test_two_streams_that_ask_for_the_same_batch_get_the_same_slot():
    shelf = shelf_of(4, A, B)

    assert shelf.request(A, [1]) == [Fill(0, 1)]
    assert shelf.request(B, [1]) == []

    assert shelf.filled(0) == [Lend(A, 0, 1), Lend(B, 0, 1)]
    assert shelf.made == 1


def test_a_late_comer_gets_a_batch_that_is_still_there():
    shelf = shelf_of(4, A, B)
    shelf.request(A, [1])
    shelf.filled(0)
    shelf.returned(A, [0])

    assert shelf.request(B, [1]) == [Lend(B, 0, 1)]


def test_a_lent_slot_is_not_refilled_until_its_last_reader_returns_it():
    shelf = shelf_of(1, A, B)
    shelf.request(A, [1])
    shelf.request(B, [1])
    shelf.filled(0)

    assert shelf.request(A, [2]) == []
    assert shelf.returned(A, [0]) == []
    assert shelf.returned(B, [0]) == [Fill(0, 2)]


def test_the_same_stream_may_read_a_slot_twice_at_a_time():
    """Validation goes round: a framework may hold the last pass's arrays while the next pass asks again."""
    shelf = shelf_of(1, A)
    shelf.request(A, [0])
    shelf.filled(0)

    assert shelf.request(A, [0]) == [Lend(A, 0, 0)]
    assert shelf.returned(A, [0]) == []
    assert shelf.request(A, [1]) == []
    assert shelf.returned(A, [0]) == [Fill(0, 1)]


def test_an_unread_batch_behind_every_stream_makes_room_before_one_that_is_ahead():
    shelf = shelf_of(3, A, B)
    shelf.request(A, [1, 2, 3])
    shelf.request(B, [1])
    for slot in range(3):
        shelf.filled(slot)
    shelf.returned(A, [1, 0, 2])
    shelf.returned(B, [0])

    assert shelf.request(A, [4]) == [Fill(0, 4)]
    assert shelf.request(B, [2]) == [Lend(B, 1, 2)]


def test_numbers_queue_for_slots_in_the_order_of_their_requests():
    shelf = shelf_of(1, A, B)
    shelf.request(A, [1])
    shelf.request(B, [7])
    shelf.request(A, [2])
    shelf.filled(0)

    assert shelf.returned(A, [0]) == [Fill(0, 7)]


def test_a_failed_batch_is_told_to_all_who_wait_and_its_slot_is_free():
    shelf = shelf_of(1, A, B)
    shelf.request(A, [1])
    shelf.request(B, [1])

    assert shelf.failed(0, OOPS) == [Fail(A, 1, OOPS), Fail(B, 1, OOPS)]
    assert shelf.request(A, [1]) == [Fill(0, 1)]


def test_a_stream_gets_on_when_the_batch_that_it_asked_for_first_has_come():
    shelf = shelf_of(4, A)
    shelf.request(A, [7, 8, 2])

    assert not shelf.gets_on(A)
    shelf.filled(1)
    assert not shelf.gets_on(A), "it waits for 7, and can do nothing with 8"
    shelf.filled(0)
    assert shelf.gets_on(A)
    assert not shelf.gets_on(A), "that was told"
    shelf.filled(2)
    assert shelf.gets_on(A)


def test_a_batch_that_is_there_already_gets_a_stream_on_if_it_is_asked_for_first():
    shelf = shelf_of(4, A, B)
    shelf.request(A, [1])
    shelf.filled(0)

    shelf.request(B, [2, 1])
    assert not shelf.gets_on(B)
    shelf.reset(B, keeps=[])
    shelf.request(B, [1, 2])
    assert shelf.gets_on(B)


def test_a_stream_that_was_told_of_a_failure_is_told_of_everything_at_once():
    """It may ask for that batch again, and want it first."""
    shelf = shelf_of(4, A)
    shelf.request(A, [1, 2, 3])
    shelf.failed(0, OOPS)
    (again,) = shelf.request(A, [1])
    shelf.filled(again.slot)
    assert shelf.gets_on(A)
    assert shelf.gets_on(A)

    shelf.reset(A, keeps=[again.slot])
    shelf.request(A, [4, 5])
    assert not shelf.gets_on(A)


def test_a_late_batch_is_made_in_a_second_slot_and_the_first_that_is_complete_is_lent():
    shelf = shelf_of(3, A)
    shelf.request(A, [1])

    assert shelf.second(0) == Fill(1, 1)
    assert shelf.second(0) is None, "twice is enough"
    assert shelf.filled(1) == [Lend(A, 1, 1)]
    assert shelf.made == 1


def test_a_slot_whose_batch_was_made_elsewhere_is_not_refilled_while_it_is_written_to():
    shelf = shelf_of(2, A)
    shelf.request(A, [1])
    shelf.second(0)
    shelf.filled(1)

    assert shelf.request(A, [2]) == []
    assert shelf.failed(0, OOPS) == [Fill(0, 2)]


def test_of_two_attempts_that_fail_the_second_one_is_told():
    shelf = shelf_of(2, A)
    shelf.request(A, [1])
    shelf.second(0)

    assert shelf.failed(0, OOPS) == []
    assert shelf.failed(1, OOPS) == [Fail(A, 1, OOPS)]


def test_a_batch_that_nobody_waits_for_any_more_is_not_made_twice():
    shelf = shelf_of(2, A)
    shelf.request(A, [1])
    shelf.reset(A, keeps=[])

    assert shelf.second(0) is None


def test_a_stream_that_is_too_far_behind_to_share_is_counted():
    shelf = shelf_of(1, A, B)
    for n in range(3):
        shelf.request(A, [n])
        shelf.filled(0)
        shelf.returned(A, [0])

    shelf.request(B, [0])

    assert shelf.made_again == 1


@pytest.mark.parametrize(("come_round", "slots"), [(False, [0, 0, 0, 0]), (True, [1, 0, 1, 0])])
def test_the_slot_that_was_returned_last_is_filled_next_unless_slots_are_to_come_round(come_round, slots):
    shelf = Shelf(2, come_round=come_round)
    shelf.open(A, SHARE)
    shelf.request(A, [0, 1])
    for slot in (1, 0):
        shelf.filled(slot)
    for slot in (1, 0):
        shelf.returned(A, [slot])

    for n, slot in enumerate(slots, start=2):
        assert shelf.request(A, [n]) == [Fill(slot, n)]
        shelf.filled(slot)
        shelf.returned(A, [slot])


def test_a_late_joiner_begins_at_the_oldest_batch_that_the_foremost_stream_has_ahead():
    shelf = Shelf(9)
    shelf.open(A, Share(prefetch=3, views=0))
    assert shelf.latest() == 0

    shelf.request(A, range(100, 103))

    assert shelf.latest() == 100


def test_a_reset_voids_what_was_asked_for_and_takes_back_all_slots_but_those_kept():
    shelf = shelf_of(3, A)
    shelf.request(A, [0, 1, 2, 3])
    for slot in range(3):
        shelf.filled(slot)

    shelf.reset(A, keeps=[0])

    assert shelf.reader_counts(A) == {"waits_for": 0, "holds": 1}
    assert shelf.request(A, [10, 11, 12]) == [Fill(2, 10), Fill(1, 11)]


def test_asking_again_for_what_a_reset_voided_does_not_fill_two_slots_with_it():
    shelf = shelf_of(3, A)
    shelf.request(A, [0, 1, 2, 3])
    shelf.reset(A, keeps=[])

    told = shelf.request(A, [3, 1])
    for slot in range(3):
        told += shelf.filled(slot)

    assert told == [Fill(0, 3), Lend(A, 1, 1)]


def test_a_stream_that_closes_gives_everything_back():
    shelf = shelf_of(2, A, B)
    shelf.request(A, [0, 1, 2])
    shelf.filled(0)
    shelf.request(B, [5])

    assert shelf.close(A) == [Fill(0, 5)]


def test_a_stream_gets_the_share_that_it_would_like_where_there_is_room():
    assert Shelf(14).offer(prefetch=8) == Share(prefetch=8, views=VIEWS)


def test_where_memory_is_short_something_is_left_for_the_next_stream():
    shelf = Shelf(10)
    shares = []
    for name in range(3):
        shares.append(shelf.offer(prefetch=8))
        shelf.open((bytes([name]) * 16, 0), shares[-1])

    assert shares == [Share(3, 2), Share(2, 2), Share(1, 0)]


def test_two_slots_are_one_to_look_at_and_one_to_wait_for():
    assert Shelf(2).offer(prefetch=8) == Share(prefetch=1, views=1)
    assert Shelf(1).offer(prefetch=8) == Share(prefetch=1, views=0)


@given(st.integers(1, 40), st.lists(st.integers(1, 12), min_size=1, max_size=8), st.data())
def test_streams_that_hold_all_that_they_may_keep_nobody_else_waiting(slots, prefetches, data):
    shelf = Shelf(slots)
    streams = {}
    for name, prefetch in enumerate(prefetches):
        if shelf.unspoken:
            streams[bytes([name]) * 16, 0] = share = shelf.offer(prefetch)
            shelf.open((bytes([name]) * 16, 0), share)
            assert 1 <= share.prefetch <= prefetch
            assert 0 <= share.views <= VIEWS
    active = data.draw(st.sampled_from(sorted(streams)))
    working = deque()

    def obey(told):
        working.extend(instruction.slot for instruction in told if isinstance(instruction, Fill))
        return [instruction.n for instruction in told if isinstance(instruction, Lend) and instruction.stream == active]

    def ask(stream, numbers):
        got = obey(shelf.request(stream, numbers))
        while working:
            got += obey(shelf.filled(working.popleft()))
        return got

    for number, (stream, share) in enumerate(streams.items()):
        if stream != active:
            ask(stream, range(1000 * number, 1000 * number + share.slots))  # and gives nothing back

    assert ask(active, range(500_000, 500_000 + streams[active].slots)) == list(
        range(500_000, 500_000 + streams[active].slots)
    )


def test_a_shelf_that_grows_has_room_for_another_stream():
    shelf = Shelf(1)
    shelf.open(A, shelf.offer(8))
    assert shelf.unspoken == 0
    shelf.grow(3)
    shelf.open(B, shelf.offer(8))
    shelf.request(A, [0])
    shelf.filled(0)

    assert shelf.request(B, [7, 8]) == [Fill(1, 7), Fill(2, 8)]


@pytest.mark.parametrize("slots", [[1], [0, 0], [99], [0, 99]])
def test_returning_what_was_not_lent_is_an_error_and_changes_nothing(slots):
    """What is freed on the way would be claimed for somebody, who were never told."""
    shelf = shelf_of(1, A, B)
    shelf.request(A, [0])
    shelf.request(B, [7])
    shelf.filled(0)

    with pytest.raises(ProtocolError, match="not lent"):
        shelf.returned(A, slots)

    assert shelf.reader_counts(A)["holds"] == 1
    assert shelf.returned(A, [0]) == [Fill(0, 7)]


def test_a_stream_that_asks_for_more_than_its_share_gets_nothing_of_others():
    shelf = shelf_of(8, A, B)
    shelf.request(A, [0, 1, 2])
    shelf.filled(0)

    with pytest.raises(ProtocolError, match="may have 6 batches would have 7 of them"):
        shelf.request(A, [3, 4, 5, 6])

    assert shelf.reader_counts(A) == {"waits_for": 2, "holds": 1}
    assert shelf.request(A, [2, 3, 4, 5]) == [Fill(3, 3), Fill(4, 4), Fill(5, 5)]


def test_a_stream_that_is_not_open_gets_nothing():
    with pytest.raises(ProtocolError, match="stream 0 is not open"):
        Shelf(2).request(A, [0])


class AnyHistory(RuleBasedStateMachine):
    """Any interleaving of requests, completions, returns, resets and disconnects."""

    def __init__(self):
        super().__init__()
        self.shelf = Shelf(3)
        self.names = iter(range(10**6))
        self.lent = {}  # stream -> slots, as often as lent
        self.wanted = {}  # stream -> numbers that it waits for
        self.filling = {}  # slot -> n
        self.void = set()  # slots that are written to, and whose batch was made elsewhere
        self.holds = {}  # slot -> n, once filled

    def obey(self, told):
        for instruction in told:
            match instruction:
                case Fill(slot, n):
                    assert n not in self.filling.values(), "one batch is made twice at a time"
                    self.begin(slot, n)
                case Lend(stream, slot, n):
                    assert self.holds[slot] == n, "a slot is lent for what it does not hold"
                    self.lent[stream].append(slot)
                    self.wanted[stream].remove(n)
                case Fail(stream, n, _):
                    assert n not in self.filling.values(), "it may yet be made"
                    self.wanted[stream].remove(n)

    def begin(self, slot, n):
        assert not any(slot in slots for slots in self.lent.values()), "a lent slot is written"
        assert slot not in self.filling
        assert slot not in self.void, "two write into one slot"
        self.filling[slot] = n
        self.holds.pop(slot, None)

    @precondition(lambda self: self.filling)
    @rule(data=st.data())
    def be_late(self, data):
        slot = data.draw(st.sampled_from(sorted(self.filling)))
        second = self.shelf.second(slot)
        if second is not None:
            assert second.n == self.filling[slot]
            assert list(self.filling.values()).count(second.n) == 1
            self.begin(second.slot, second.n)

    @precondition(lambda self: self.void)
    @rule(data=st.data(), good=st.booleans())
    def end_late(self, data, good):
        slot = data.draw(st.sampled_from(sorted(self.void)))
        self.void.remove(slot)
        self.obey(self.shelf.filled(slot) if good else self.shelf.failed(slot, OOPS))

    @precondition(lambda self: len(self.lent) < 4)
    @rule()
    def open(self):
        stream = (next(self.names).to_bytes(16, "big"), 0)
        self.shelf.open(stream, SHARE)
        self.lent[stream], self.wanted[stream] = [], []

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), first=st.integers(0, 8), count=st.integers(1, 5))
    def request(self, data, first, count):
        stream = data.draw(st.sampled_from(sorted(self.lent)))
        fresh = [n for n in range(first, first + count) if n not in self.wanted[stream]]
        if len(self.lent[stream]) + len(self.wanted[stream]) + len(fresh) > SHARE.slots:
            with pytest.raises(ProtocolError, match="may have 6 batches"):
                self.shelf.request(stream, range(first, first + count))
            return
        self.wanted[stream] += fresh
        self.obey(self.shelf.request(stream, range(first, first + count)))

    @precondition(lambda self: self.filling)
    @rule(data=st.data(), good=st.booleans())
    def complete(self, data, good):
        self.complete_one(data.draw(st.sampled_from(sorted(self.filling))), good)

    def complete_one(self, slot, good):
        n = self.filling.pop(slot)
        if good:
            self.holds[slot] = n
            for rival in [other for other, same in self.filling.items() if same == n]:
                del self.filling[rival]
                self.void.add(rival)
            self.obey(self.shelf.filled(slot))
        else:
            self.obey(self.shelf.failed(slot, OOPS))

    @precondition(lambda self: any(self.lent.values()))
    @rule(data=st.data())
    def give_back(self, data):
        stream = data.draw(st.sampled_from(sorted(stream for stream, slots in self.lent.items() if slots)))
        slot = data.draw(st.sampled_from(self.lent[stream]))
        self.lent[stream].remove(slot)
        self.obey(self.shelf.returned(stream, [slot]))

    @precondition(lambda self: any(self.lent.values()))
    @rule(data=st.data(), wrong=st.integers(0, 5))
    def give_back_what_is_not_lent(self, data, wrong):
        stream = data.draw(st.sampled_from(sorted(stream for stream, slots in self.lent.items() if slots)))
        right = self.lent[stream]
        with pytest.raises(ProtocolError, match="not lent to"):
            self.shelf.returned(stream, [*right, *[wrong] * (right.count(wrong) + 1)])

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def reset(self, data):
        stream = data.draw(st.sampled_from(sorted(self.lent)))
        keeps = data.draw(st.lists(st.sampled_from(self.lent[stream]), unique=True)) if self.lent[stream] else []
        self.lent[stream], self.wanted[stream] = list(keeps), []
        self.obey(self.shelf.reset(stream, keeps))

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def disconnect(self, data):
        stream = data.draw(st.sampled_from(sorted(self.lent)))
        del self.lent[stream], self.wanted[stream]
        self.obey(self.shelf.close(stream))

    @invariant()
    def no_slot_is_lost(self):
        counts = self.shelf.counts()
        assert sum(counts.values()) == 3
        assert counts["filling"] == len(self.filling) + len(self.void)

    @invariant()
    def every_loan_is_somebodys(self):
        assert self.shelf.counts()["lent"] == len({slot for slots in self.lent.values() for slot in slots})
        for stream, slots in self.lent.items():
            assert self.shelf.reader_counts(stream) == {"waits_for": len(self.wanted[stream]), "holds": len(slots)}

    @invariant()
    def nobody_waits_while_a_slot_is_idle(self):
        counts = self.shelf.counts()
        if any(self.wanted.values()) and counts["free"] + counts["unread"]:
            assert self.filling, "somebody waits, a slot is idle, and nothing is being made"

    def teardown(self):
        """In the end, with readers that return and workers that work, every request is answered."""
        for _ in range(1000):
            while self.filling:
                self.complete_one(min(self.filling), good=True)
            for slot in sorted(self.void):
                self.void.remove(slot)
                self.obey(self.shelf.filled(slot))
            for stream in sorted(self.lent):
                slots, self.lent[stream] = self.lent[stream], []
                self.obey(self.shelf.returned(stream, slots))
            if not any(self.wanted.values()):
                break
        assert not any(self.wanted.values())


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
