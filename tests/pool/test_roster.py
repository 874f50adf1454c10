"""How many workers there are: replaced at once, slowly where their start is broken, sent away when not wanted."""

import pytest

from loader_service.pool.roster import LONGEST_PAUSE, Roster


def settled(wanted):
    roster = Roster(wanted)
    for worker in roster.start(now=0):
        roster.started(worker, pid=1000 + worker)
        roster.joined(worker)
    return roster


def test_a_pool_is_settled_when_all_wanted_workers_have_joined():
    roster = Roster(2)
    first, second = roster.start(now=0)
    roster.joined(first)

    assert not roster.is_settled()
    roster.joined(second)

    assert roster.is_settled()
    assert roster.start(now=0) == []


def test_a_dead_worker_is_replaced_at_once():
    roster = settled(2)

    roster.ended(0, now=5)

    assert roster.start(now=5) == [2]
    assert roster.lost == 1


def test_scaling_down_retires_the_youngest_and_replaces_none_of_them():
    roster = settled(3)
    roster.wanted = 1

    assert roster.retire() == [1, 2]
    assert roster.retire() == []
    roster.ended(1, now=0)
    roster.ended(2, now=0)

    assert roster.start(now=0) == []
    assert roster.is_settled()
    assert roster.lost == 0


def test_workers_that_die_before_they_join_are_started_ever_more_slowly():
    """Something in their start is broken: a loop of forks would not mend it."""
    roster = Roster(1)
    now, pauses = 0.0, []
    for _ in range(10):
        (worker,) = roster.start(now)
        roster.ended(worker, now)
        assert roster.start(now) == []
        pauses.append(roster.pause(now))
        now += pauses[-1]

    assert pauses[:3] == pytest.approx([0.2, 0.4, 0.8])
    assert pauses[-1] == LONGEST_PAUSE


def test_a_worker_that_was_sent_away_while_it_started_is_told_so_when_it_joins():
    roster = Roster(2)
    first, second = roster.start(now=0)
    roster.wanted = 1
    assert roster.retire() == [second]

    assert roster.joined(first)
    assert not roster.joined(second)


def test_a_worker_that_is_killed_is_replaced_before_it_is_dead():
    """A process that waits for a disk outlives its SIGKILL."""
    roster = settled(2)

    roster.killed(0)

    assert roster.start(now=5) == [2]
    assert roster.ended(0, now=9) is not None
    assert roster.start(now=9) == []
    assert roster.lost == 1


def test_a_worker_that_is_sent_away_is_replaced_and_not_counted_as_lost():
    roster = settled(2)

    roster.sent_away(1)

    assert roster.start(now=5) == [2]
    roster.ended(1, now=6)
    assert roster.lost == 0
