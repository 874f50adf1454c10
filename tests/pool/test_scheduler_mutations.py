"""Mistakes in the scheduler's rules are found by its state machine."""

import pytest

from loader_service.pool.scheduler import Scheduler
from tests.mutations import assert_found
from tests.pool.test_scheduler import AnyHistory

right = vars(Scheduler).copy()


def forgets_the_rows_of_a_lost_worker(self, worker, how="lost"):
    self._workers.pop(worker, None)
    return []


def forgets_the_second_task_of_a_lost_worker(self, worker, how="lost"):
    lost = self._workers.get(worker)
    if lost is not None:
        lost.tasks = dict(list(lost.tasks.items())[:1])
    return right["worker_lost"](self, worker, how)


def ends_a_job_twice(self, pieces):
    ended = right["_account"](self, pieces)
    return ended + ended[:1]


def ends_a_job_while_it_is_written_to(self, job, error):
    right["_drop"](self, job, error)
    return [job]


def gives_rows_to_two_workers(self, dataset):
    pieces = right["_cut"](self, dataset)
    if pieces[0].start == 1:
        self._waiting[dataset].appendleft(pieces[0])
        self._waiting_rows[dataset] += pieces[0].rows
    return pieces


def lets_both_attempts_count(self, ended, other):
    ended.rival = other.rival = None
    return []


def makes_a_second_attempt_at_what_has_ended(self, worker, helped):
    return [piece.job for pieces in worker.tasks.values() for piece in pieces][:1]


MISTAKES = [
    ("worker_lost", forgets_the_rows_of_a_lost_worker),
    ("worker_lost", forgets_the_second_task_of_a_lost_worker),
    ("_account", ends_a_job_twice),
    ("_drop", ends_a_job_while_it_is_written_to),
    ("_cut", gives_rows_to_two_workers),
    ("_part", lets_both_attempts_count),
    ("_next_to_help", makes_a_second_attempt_at_what_has_ended),
]


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_scheduler_is_found_out_that(rule, mistake):
    assert_found(AnyHistory, Scheduler, lambda patch: patch.setattr(Scheduler, rule, mistake))
