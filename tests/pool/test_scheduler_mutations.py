"""Mistakes in the scheduler's rules are found by its state machine."""

import pytest

from loader_service.pool.backlog import Piece
from loader_service.pool.scheduler import DEPTH, Scheduler
from tests.mutations import assert_found
from tests.pool.test_scheduler import AnyHistory

right = {**vars(Piece), **vars(Scheduler)}


def finishes_a_batch_before_its_rows_are_there(piece):
    return False


def forgets_the_finish_of_a_batch_that_was_cut(piece):
    whole = right["hold_finish"](piece)
    piece.job.held = False
    piece.job.missing -= whole
    return whole


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
        self._backlogs[dataset].put_back(pieces[0])
    return pieces


def lets_both_attempts_count(self, ended, other):
    ended.rival = other.rival = None
    return []


def believes_that_a_lost_worker_was_done(self, worker, how="lost"):
    lost = self._workers.pop(worker, None)
    return self._account([piece for pieces in lost.tasks.values() for piece in pieces]) if lost else []


def believes_an_answer_that_comes_late(self, worker, task, seconds):
    known = self._workers.get(worker)
    backlog = next((backlog for backlog in self._backlogs.values() if backlog), None)
    if backlog and (known is None or task not in known.tasks):
        return self._account(backlog.cut(len(self._workers) or 1))
    return right["rows_filled"](self, worker, task, seconds)


def forgets_what_comes_after_a_failure(self, worker, task, piece, error):
    known = self._workers.get(worker)
    if known and task in known.tasks:
        del known.tasks[task][piece + 1 :]
    return right["rows_failed"](self, worker, task, piece, error)


def hands_out_a_row_of_its_neighbour(self, dataset):
    pieces = right["_cut"](self, dataset)
    if pieces[-1].stop < pieces[-1].job.rows:
        pieces[-1].stop += 1
    return pieces


def skips_a_row_of_a_suspect(self, piece, how, **options):
    if piece.rows > 2:
        piece.start += 1
    return right["_suspect"](self, piece, how, **options)


def mixes_datasets_in_a_task(self, dataset):
    pieces = right["_cut"](self, dataset)
    for other, backlog in self._backlogs.items():
        if other != dataset and backlog:
            return [*pieces, *backlog.cut(1)]
    return pieces


def gives_tasks_to_the_retired(self, worker):
    return len(worker.tasks) < DEPTH and not worker.opening


def dismisses_the_busy(self):
    found = [number for number, worker in self._workers.items() if worker.retiring]
    for number in found:
        del self._workers[number]
    return found


MISTAKES = [
    ("hold_finish", finishes_a_batch_before_its_rows_are_there),
    ("hold_finish", forgets_the_finish_of_a_batch_that_was_cut),
    ("worker_lost", forgets_the_rows_of_a_lost_worker),
    ("worker_lost", forgets_the_second_task_of_a_lost_worker),
    ("_account", ends_a_job_twice),
    ("_drop", ends_a_job_while_it_is_written_to),
    ("_cut", gives_rows_to_two_workers),
    ("_part", lets_both_attempts_count),
    ("worker_lost", believes_that_a_lost_worker_was_done),
    ("rows_filled", believes_an_answer_that_comes_late),
    ("rows_failed", forgets_what_comes_after_a_failure),
    ("_cut", hands_out_a_row_of_its_neighbour),
    ("_suspect", skips_a_row_of_a_suspect),
    ("_cut", mixes_datasets_in_a_task),
    ("_is_free", gives_tasks_to_the_retired),
    ("dismissable", dismisses_the_busy),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_scheduler_is_found_out_that(rule, mistake):
    holder = Piece if rule in vars(Piece) else Scheduler
    assert_found(AnyHistory, Scheduler, lambda patch: patch.setattr(holder, rule, mistake))
