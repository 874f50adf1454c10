"""The scheduler's rules: every row is made, by one worker at a time, whatever becomes of the workers."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from loader_service.pool.backlog import LATE_TIMES, LONG
from loader_service.pool.scheduler import DEATHS, DEPTH, LOSSES, OPENINGS, OVERTAKEN, Scheduler
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import SampleError
from loader_service.protocol.ledger import BadSample

OOPS = failed(SampleError("oops"))


def bad(sample_id):
    return BadSample(sample_id, f"{sample_id}.jpg", "oops")


def pool_of(workers):
    scheduler = Scheduler()
    for worker in range(workers):
        scheduler.worker_joined(worker)
    return scheduler


def rows_of(task):
    return [(slot, row) for slot, _, start, stop in task.pieces for row in range(start, stop)]


def finish(scheduler, worker, task, seconds=0.001):
    return scheduler.rows_filled(worker, task.task, seconds)


def finish_all(scheduler, assigned):
    """Finish tasks, and return slot and error of the jobs that ended."""
    return [(job.slot, job.error) for worker, task in assigned for job in finish(scheduler, worker, task)]


def test_the_first_batch_is_made_by_all_workers_together():
    """The first batch arrives as many times sooner as there are workers."""
    scheduler = pool_of(4)
    scheduler.fill(dataset=0, arena=0, slot=0, n=0, rows=64)

    assigned = scheduler.assign()

    assert {worker for worker, _ in assigned} == {0, 1, 2, 3}
    assert sorted(row for _, task in assigned for row in rows_of(task)) == [(0, row) for row in range(64)]


def test_a_job_ends_with_its_last_row_and_only_once():
    scheduler = pool_of(2)
    scheduler.fill(dataset=0, arena=0, slot=3, n=7, rows=10)
    (first_worker, first), (second_worker, second) = scheduler.assign()

    assert finish(scheduler, first_worker, first) == []
    (job,) = finish(scheduler, second_worker, second)

    assert (job.slot, job.n, job.error) == (3, 7, None)
    assert finish(scheduler, second_worker, second) == []


def test_small_batches_travel_in_runs_once_their_cost_is_known():
    """A message for each batch of some microseconds would cost more than the batch."""
    scheduler = pool_of(1)
    scheduler.fill(0, 0, slot=0, n=0, rows=4)
    ((worker, task),) = scheduler.assign()
    finish(scheduler, worker, task, seconds=4e-6)

    for slot in range(10):
        scheduler.fill(0, 0, slot, n=slot + 1, rows=4)
    ((_, task),) = scheduler.assign()

    assert [slot for slot, *_ in task.pieces] == list(range(10))


def test_a_large_batch_is_cut_into_tasks_of_some_milliseconds():
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=2)
    for worker, task in scheduler.assign():
        finish(scheduler, worker, task, seconds=0.001)

    for slot in range(4):
        scheduler.fill(0, 0, slot, n=slot + 1, rows=256)
    assigned = scheduler.assign()

    assert {len(rows_of(task)) for _, task in assigned} == {32}


def test_a_worker_has_no_more_than_two_tasks_at_hand():
    scheduler = pool_of(2)
    for slot in range(8):
        scheduler.fill(0, 0, slot, n=slot, rows=1000)

    assigned = scheduler.assign()

    assert Counter(worker for worker, _ in assigned) == {0: DEPTH, 1: DEPTH}


def test_datasets_take_turns():
    """Validation must not wait until training has nothing to do."""
    scheduler = pool_of(1)
    for slot in range(5):
        scheduler.fill(dataset=1, arena=1, slot=slot, n=slot, rows=1000)
    scheduler.fill(dataset=2, arena=2, slot=0, n=0, rows=10)

    assert [task.dataset for _, task in scheduler.assign()] == [1, 2]


def test_rows_of_a_lost_worker_go_to_another_one():
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=64)
    (dead, lost), (alive, other) = scheduler.assign()

    scheduler.worker_lost(dead)
    redone = []
    jobs = finish(scheduler, alive, other)
    while assigned := scheduler.assign():
        for worker, task in assigned:
            redone += rows_of(task)
            jobs += finish(scheduler, worker, task)

    assert sorted(redone) == rows_of(lost)
    assert [job.error for job in jobs] == [None]


def test_rows_that_raise_are_tried_once_more_then_their_batch_fails():
    scheduler = pool_of(1)
    scheduler.fill(0, 0, slot=0, n=0, rows=8)
    ((worker, task),) = scheduler.assign()

    assert scheduler.rows_failed(worker, task.task, 0, OOPS) == []
    ((worker, again),) = scheduler.assign()
    (job,) = scheduler.rows_failed(worker, again.task, 0, OOPS)

    assert job.error == OOPS
    assert scheduler.assign() == []


def test_pieces_after_a_failed_one_are_made_all_the_same():
    """One bad batch in a run of small ones must not take its neighbours along."""
    scheduler = pool_of(1)
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    ((worker, task),) = scheduler.assign()
    finish(scheduler, worker, task, seconds=1e-6)
    for slot in range(3):
        scheduler.fill(0, 0, slot, n=slot + 1, rows=1)
    ((worker, run),) = scheduler.assign()

    ended = scheduler.rows_failed(worker, run.task, 1, OOPS)
    while assigned := scheduler.assign():
        for worker, task in assigned:
            if any(slot == 1 for slot, *_ in task.pieces):
                position = [slot for slot, *_ in task.pieces].index(1)
                ended += scheduler.rows_failed(worker, task.task, position, OOPS)
            else:
                ended += finish(scheduler, worker, task)

    assert {(job.n, job.error is None) for job in ended} == {(1, True), (2, False), (3, True)}


def test_a_row_that_kills_every_worker_is_blamed_and_its_neighbours_are_not():
    """Otherwise a poison sample would kill workers for ever, and look like a hang."""
    scheduler = Scheduler()
    poison, deaths, ended = 13, 0, []
    scheduler.worker_joined(0)
    scheduler.fill(0, 0, slot=0, n=0, rows=32)

    for worker in range(1, 100):
        scheduler.worker_joined(worker)
        dead = None
        for at, task in scheduler.assign():
            if at == dead:
                continue
            if task.blame:
                assert rows_of(task) == [(0, poison)]
                ended += scheduler.rows_failed(at, task.task, 0, OOPS, bad(77))
            elif (0, poison) in rows_of(task):
                scheduler.rows_begun(at, task.task)
                ended += scheduler.worker_lost(at)
                deaths, dead = deaths + 1, at
            else:
                ended += finish(scheduler, at, task)

    (job,) = ended
    assert job.error == OOPS
    assert deaths <= 1 + DEATHS


def test_of_many_rows_few_workers_die_until_one_is_blamed():
    scheduler = Scheduler()
    poison, deaths, ended = 31_234, 0, []
    scheduler.fill(0, 0, slot=0, n=0, rows=100_000)

    for worker in range(1, 100):
        scheduler.worker_joined(worker)
        dead = False
        while not dead and (assigned := scheduler.assign()):
            for at, task in assigned:
                if dead:
                    continue  # it was that worker's next task
                if task.blame:
                    assert rows_of(task) == [(0, poison)]
                    assert "killed by SIGSEGV" in task.blame
                    ended += scheduler.rows_failed(at, task.task, 0, OOPS, bad(77))
                elif (0, poison) in rows_of(task):
                    scheduler.rows_begun(at, task.task)
                    ended += scheduler.worker_lost(at, how="killed by SIGSEGV")
                    deaths, dead = deaths + 1, True
                else:
                    ended += finish(scheduler, at, task, seconds=1e-7)
        if ended:
            break

    (job,) = ended
    assert job.error == OOPS
    assert deaths <= 4 + DEATHS


def test_workers_that_die_before_they_have_begun_with_a_row_do_not_speak_against_it():
    """They may have been killed by somebody while they imported the user's code: the same row is next each time."""
    scheduler = Scheduler()
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    ended = []
    for worker in range(LOSSES - 1):
        scheduler.worker_joined(worker)
        ((_, task),) = scheduler.assign()
        assert task.announce == (worker > 0)
        ended += scheduler.worker_lost(worker)
    scheduler.worker_joined(LOSSES)
    ((worker, task),) = scheduler.assign()
    ended += finish(scheduler, worker, task)

    assert [job.error for job in ended] == [None]


def test_not_even_they_die_for_ever():
    scheduler = Scheduler()
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    ended = []
    for worker in range(LOSSES):
        assert not ended
        scheduler.worker_joined(worker)
        scheduler.assign()
        ended += scheduler.worker_lost(worker, how="ended with exit code 1")

    (job,) = ended
    assert f"{LOSSES} workers died before they had made it; the last was ended with exit code 1" in job.error.message


def late_pool():
    """Return a scheduler of two workers, the first of which is late with the only batch that is wanted."""
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=2)
    for worker, task in scheduler.assign():
        finish(scheduler, worker, task, seconds=0.01)
    scheduler.fill(0, 0, slot=1, n=1, rows=2)
    (slow, slow_task), (fast, fast_task) = scheduler.assign()
    finish(scheduler, fast, fast_task)
    scheduler.watch(now=10)
    _, (job,) = scheduler.watch(now=10 + LONG + 0.1)
    return scheduler, job, slow, slow_task


def test_a_batch_that_is_late_while_a_worker_is_idle_is_made_a_second_time_in_another_slot():
    scheduler, late, _, _ = late_pool()
    fast = 1
    assert late.slot == 1

    scheduler.fill_again(late, slot=7)
    assigned = scheduler.assign()

    assert {worker for worker, _ in assigned} == {fast}
    assert [row for _, task in assigned for row in rows_of(task)] == [(7, 0), (7, 1)]
    assert finish_all(scheduler, assigned) == [(7, None)]


def test_a_slot_that_was_overtaken_comes_back_only_when_its_writer_has_ended():
    scheduler, late, slow, slow_task = late_pool()
    scheduler.fill_again(late, slot=7)

    assert finish_all(scheduler, scheduler.assign()) == [(7, None)]
    assert [(job.slot, job.error) for job in finish(scheduler, slow, slow_task)] == [(1, OVERTAKEN)]


def test_the_first_attempt_may_win_and_the_second_one_is_dropped():
    scheduler, late, slow, slow_task = late_pool()
    scheduler.fill_again(late, slot=7)

    assert [(job.slot, job.error) for job in finish(scheduler, slow, slow_task)] == [(1, None), (7, OVERTAKEN)]
    assert scheduler.assign() == []


def test_when_the_late_worker_dies_the_second_attempt_goes_on_alone():
    """Nobody falls into the same hole twice."""
    scheduler, late, slow, _ = late_pool()
    scheduler.fill_again(late, slot=7)
    assigned = scheduler.assign()

    assert [(job.slot, job.error) for job in scheduler.worker_lost(slow)] == [(1, OVERTAKEN)]
    assert scheduler.assign() == []
    assert finish_all(scheduler, assigned) == [(7, None)]


def test_when_both_attempts_lose_their_workers_one_of_them_is_made_again():
    scheduler, late, slow, _ = late_pool()
    scheduler.fill_again(late, slot=7)
    (other, _), _ = scheduler.assign()
    ended = scheduler.worker_lost(slow) + scheduler.worker_lost(other)
    scheduler.worker_joined(9)

    while assigned := scheduler.assign():
        for worker, task in assigned:
            ended += finish(scheduler, worker, task)

    assert [(job.slot, job.error) for job in ended] == [(1, OVERTAKEN), (7, None)]


def test_what_waits_behind_a_late_task_is_made_by_others_as_well():
    scheduler = pool_of(1)
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    finish_all(scheduler, scheduler.assign())
    for slot in (1, 2):
        scheduler.fill(0, 0, slot, n=slot, rows=2)
    scheduler.assign()
    scheduler.worker_joined(1)
    scheduler.watch(now=0)
    late = []
    for _ in range(3):
        for job in scheduler.watch(now=1)[1]:
            late.append(job.slot)
            scheduler.fill_again(job, slot=10 + job.slot)
            finish_all(scheduler, scheduler.assign())

    assert late == [1, 2]


def at_something_long(*, forgotten):
    """Return a scheduler of two workers, the first of which was given a batch of dataset 1 behind one of dataset 0."""
    scheduler = pool_of(1)
    scheduler.fill(dataset=0, arena=0, slot=0, n=0, rows=1)
    scheduler.fill(dataset=1, arena=1, slot=1, n=0, rows=1)
    assert [task.dataset for _, task in scheduler.assign()] == [0, 1]
    scheduler.worker_joined(1)
    if forgotten:
        scheduler.forget(0)
    scheduler.watch(now=10)
    return scheduler


@pytest.mark.parametrize("forgotten", [False, True], ids=["somebody waits for that", "nobody does any more"])
def test_what_waits_behind_another_dataset_s_long_task_is_made_by_others_as_well(forgotten):
    """Nothing is known yet of how long that one takes; it need not be late."""
    scheduler = at_something_long(forgotten=forgotten)

    (job,) = scheduler.watch(now=10 + LONG + 0.1)[1]
    assert (job.dataset, job.slot) == (1, 1)
    scheduler.fill_again(job, slot=7)
    ((other, task),) = scheduler.assign()
    assert other == 1
    assert [(ended.slot, ended.error) for ended in finish(scheduler, other, task)] == [(7, None)]


@pytest.mark.parametrize("forgotten", [False, True], ids=["somebody waits for that", "nobody does any more"])
def test_nothing_more_is_queued_behind_a_long_task(forgotten):
    scheduler = at_something_long(forgotten=forgotten)
    scheduler.watch(now=10 + LONG + 0.1)

    for n in range(1, 5):
        scheduler.fill(dataset=1, arena=1, slot=1 + n, n=n, rows=1)
    assert {worker for worker, _ in scheduler.assign()} == {1}


def test_a_dataset_that_is_read_live_is_made_by_one_worker_in_order():
    scheduler = pool_of(3)
    scheduler.pin(0)
    for n in range(6):
        scheduler.fill(dataset=0, arena=0, slot=n, n=n, rows=4)

    made = []
    while assigned := scheduler.assign():
        made += [(worker, *row) for worker, task in assigned for row in rows_of(task)]
        finish_all(scheduler, assigned)

    (only,) = {worker for worker, *_ in made}
    assert made == [(only, slot, row) for slot in range(6) for row in range(4)]


def test_other_datasets_do_not_wait_for_the_busy_worker_of_a_live_one():
    scheduler = pool_of(2)
    scheduler.pin(0)
    for n in range(10):
        scheduler.fill(dataset=0, arena=0, slot=n, n=n, rows=1)
    (pinned,) = {worker for worker, _ in scheduler.assign()}

    scheduler.fill(dataset=1, arena=1, slot=0, n=0, rows=1)
    ((worker, task),) = scheduler.assign()

    assert (worker != pinned, task.dataset) == (True, 1)


def test_when_the_worker_of_a_live_dataset_dies_another_one_goes_on():
    scheduler = pool_of(2)
    scheduler.pin(0)
    scheduler.fill(dataset=0, arena=0, slot=0, n=0, rows=1)
    ((worker, _),) = scheduler.assign()

    scheduler.worker_lost(worker)
    ((other, task),) = scheduler.assign()

    assert other != worker
    assert [job.slot for job in finish(scheduler, other, task)] == [0]


def test_a_task_without_rows_says_nothing_of_how_long_they_take():
    scheduler = pool_of(1)
    scheduler.fill(dataset=0, arena=0, slot=3, n=0, rows=0)
    ((worker, task),) = scheduler.assign()

    assert [job.slot for job in finish(scheduler, worker, task)] == [3]


def test_nobody_takes_a_live_dataset_over_before_it_is_known_what_its_worker_has_made():
    """It has hung up, say, and may be dead: what it was given would be made after what waits."""
    scheduler = pool_of(2)
    scheduler.pin(0)
    for n in range(4):
        scheduler.fill(dataset=0, arena=0, slot=n, n=n, rows=1)
    (worker, _), *_ = assigned = scheduler.assign()
    given = [row for _, task in assigned for row in rows_of(task)]

    scheduler.worker_retired(worker)
    assert scheduler.assign() == []
    scheduler.worker_lost(worker)

    made = []
    while assigned := scheduler.assign():
        made += [row for _, task in assigned for row in rows_of(task)]
        finish_all(scheduler, assigned)
    assert len(given) < 4
    assert made == [(slot, 0) for slot in range(4)]


def test_a_live_dataset_moves_on_when_its_worker_is_sent_away_and_done():
    scheduler = pool_of(2)
    scheduler.pin(0)
    scheduler.fill(dataset=0, arena=0, slot=0, n=0, rows=1)
    ((worker, task),) = scheduler.assign()
    scheduler.fill(dataset=0, arena=0, slot=1, n=1, rows=1)

    scheduler.worker_retired(worker)
    assert scheduler.assign() == []
    finish(scheduler, worker, task)
    ((other, _),) = scheduler.assign()

    assert other != worker


def test_what_is_read_live_is_not_made_twice():
    """Neither because it raised, nor because it is late: the second time, it would be something else."""
    scheduler = pool_of(2)
    scheduler.pin(0)
    scheduler.fill(dataset=0, arena=0, slot=0, n=0, rows=1)
    ((worker, task),) = scheduler.assign()
    finish(scheduler, worker, task)
    scheduler.fill(dataset=0, arena=0, slot=1, n=1, rows=1)
    ((worker, task),) = scheduler.assign()

    scheduler.watch(0.0)
    assert scheduler.watch(1000 * LONG) == ([], [])
    (job,) = scheduler.rows_failed(worker, task.task, 0, OOPS)
    assert job.error == OOPS


def test_nothing_is_late_while_there_is_other_work_or_nobody_to_do_it():
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=2)
    for worker, task in scheduler.assign():
        finish(scheduler, worker, task, seconds=0.01)
    scheduler.fill(0, 0, slot=1, n=1, rows=2)
    scheduler.assign()
    scheduler.watch(now=0)

    assert scheduler.watch(now=100) == ([], [])


def test_a_task_of_many_slow_rows_is_not_late_before_its_time():
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=2)
    for worker, task in scheduler.assign():
        finish(scheduler, worker, task, seconds=1.0)
    scheduler.fill(0, 0, slot=1, n=1, rows=1)
    scheduler.assign()
    scheduler.watch(now=0)

    assert scheduler.watch(now=LATE_TIMES - 1) == ([], [])
    assert [job.n for job in scheduler.watch(now=LATE_TIMES + 1)[1]] == [1]


def test_a_worker_that_is_at_one_task_for_too_long_is_overdue():
    scheduler = Scheduler(task_timeout=5)
    scheduler.worker_joined(0)
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    scheduler.fill(0, 0, slot=1, n=1, rows=1)
    (_, first), (_, second) = scheduler.assign()

    assert scheduler.watch(now=0)[0] == []
    assert scheduler.watch(now=4)[0] == []
    finish(scheduler, 0, first)
    assert scheduler.watch(now=6)[0] == []  # the second task has only begun
    assert scheduler.watch(now=12)[0] == [0]
    finish(scheduler, 0, second)
    assert scheduler.watch(now=100)[0] == []


def test_a_worker_that_opens_a_dataset_is_given_time_and_no_tasks():
    scheduler = Scheduler(task_timeout=1)
    scheduler.worker_joined(0)
    scheduler.worker_opens(0)
    scheduler.fill(0, 0, slot=0, n=0, rows=1)

    assert scheduler.assign() == []
    assert scheduler.load() == {0: 1}
    scheduler.watch(now=0)
    assert scheduler.watch(now=OPENINGS - 0.5)[0] == []
    assert scheduler.watch(now=OPENINGS + 0.5)[0] == [0]
    scheduler.worker_opened(0)
    assert len(scheduler.assign()) == 1


def suspect(scheduler, row=0, rows=1):
    """Have workers die over a batch until the task comes that asks for the name of one row's sample; return it."""
    asked = None
    for worker in range(1000, 1100):
        scheduler.worker_joined(worker)
        for at, task in scheduler.assign():
            if task.blame:
                asked = at, task
            elif (0, row) in rows_of(task):
                scheduler.rows_begun(at, task.task)
                scheduler.worker_lost(at)
            else:
                finish(scheduler, at, task)
        if asked:
            return asked
    raise AssertionError("nobody was asked")


def test_a_suspect_is_all_that_its_worker_has():
    """A worker may die before it could say that it was done with its first task: that was not to blame, then."""
    scheduler = pool_of(1)
    for n in range(3):
        scheduler.fill(0, 0, slot=n, n=n, rows=1)
    assert len(scheduler.assign()) == DEPTH
    scheduler.worker_lost(0)

    scheduler.worker_joined(1)
    alone = scheduler.assign()
    assert [rows_of(task) for _, task in alone] == [[(0, 0)]]
    finish_all(scheduler, alone)
    assert sorted(row for _, task in scheduler.assign() for row in rows_of(task)) == [(1, 0), (2, 0)]


def test_a_suspect_waits_for_a_worker_that_has_nothing_else():
    """And the work of other datasets, of which there may always be more, does not keep it waiting."""
    scheduler = pool_of(2)
    scheduler.fill(1, 1, slot=99, n=99, rows=1)
    for n in range(50):
        scheduler.fill(0, 0, slot=n, n=n, rows=1000)
    held = [task for worker, task in scheduler.assign() if worker == 1]
    scheduler.worker_lost(0)

    for _ in range(10):
        finish(scheduler, 1, held.pop(0), seconds=10)
        for _, task in scheduler.assign():
            if rows_of(task) == [(99, 0)]:
                assert not held
                return
            held.append(task)
    raise AssertionError("it waits for ever")


@pytest.mark.parametrize("poison", [0, 1])
def test_rows_are_not_blamed_for_deaths_in_company(poison):
    """They may have been made, with word of it still under way, when the next ones killed the worker."""
    scheduler = Scheduler()
    for n in range(2):
        scheduler.fill(0, 0, slot=n, n=n, rows=1)
    deaths = Counter()
    for worker in range(10):
        scheduler.worker_joined(worker)
        assigned = scheduler.assign()
        batches = tuple(n for _, task in assigned for _, n, _, _ in task.pieces)
        if any(task.blame for _, task in assigned):
            break
        if poison in batches:
            scheduler.rows_begun(assigned[0][0], assigned[0][1].task)
            scheduler.worker_lost(assigned[0][0])
            deaths[batches] += 1
        else:
            finish_all(scheduler, assigned)

    assert batches == (poison,)
    assert deaths == {(0, 1): 1, (poison,): DEATHS}


def test_a_worker_that_lives_is_asked_for_the_name_of_a_sample_that_kills():
    """The daemon does not know which sample is in which row."""
    scheduler = Scheduler()
    scheduler.fill(0, 0, slot=0, n=0, rows=8)

    worker, task = suspect(scheduler, row=5)

    assert rows_of(task) == [(0, 5)]
    assert task.blame == f"{DEATHS} workers died while each made it alone; the last was lost"
    (job,) = scheduler.rows_failed(worker, task.task, 0, OOPS, bad(77))
    assert job.error == OOPS


def test_another_worker_is_asked_if_that_one_dies():
    scheduler = Scheduler()
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    worker, task = suspect(scheduler)

    assert scheduler.worker_lost(worker) == []
    scheduler.worker_joined(7)
    ((worker, again),) = scheduler.assign()

    assert (worker, again.blame) == (7, task.blame)


def test_a_row_is_not_blamed_any_more_once_samples_of_its_dataset_are_replaced():
    """Another stream may have found the same one out: what stands in its place has killed nobody."""
    scheduler = Scheduler()
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    worker, task = suspect(scheduler)
    scheduler.worker_lost(worker)

    scheduler.samples_replaced(0)

    scheduler.worker_joined(7)
    ((worker, again),) = scheduler.assign()
    assert task.blame
    assert (worker, again.blame, rows_of(again)) == (7, "", rows_of(task))


def judging(replaced):
    """Return a scheduler that replaces these samples, and the list of all that were judged."""
    judged = []

    def judge(dataset, sample, error):
        judged.append(sample.id)
        return None if sample.id in replaced else error

    return Scheduler(judge=judge), judged


def test_rows_whose_sample_is_replaced_are_made_again():
    scheduler, judged = judging({3, 5})
    scheduler.worker_joined(0)
    scheduler.fill(0, 0, slot=0, n=0, rows=8)

    ended = []
    for sample_id in (3, 3, 5, 5):
        ((worker, task),) = scheduler.assign()
        ended += scheduler.rows_failed(worker, task.task, 0, OOPS, bad(sample_id))
    ((worker, task),) = scheduler.assign()

    assert ended == []
    assert judged == [3, 5]
    assert len(rows_of(task)) == 8
    assert [job.error for job in finish(scheduler, worker, task)] == [None]


def test_a_row_that_kills_is_made_again_once_its_sample_is_replaced():
    scheduler, _ = judging({77})
    scheduler.fill(0, 0, slot=0, n=0, rows=1)
    worker, task = suspect(scheduler)

    assert scheduler.rows_failed(worker, task.task, 0, OOPS, bad(77)) == []
    ((worker, again),) = scheduler.assign()

    assert (again.blame, rows_of(again)) == ("", [(0, 0)])
    assert [job.error for job in finish(scheduler, worker, again)] == [None]


def test_attempts_are_counted_for_each_sample():
    """A disk that fails for a moment fails for one sample, and then for the next: neither is bad."""
    scheduler, judged = judging({3, 4, 5})
    scheduler.worker_joined(0)
    scheduler.fill(0, 0, slot=0, n=0, rows=8)

    for sample_id in (3, 4, 5):
        ((worker, task),) = scheduler.assign()
        assert scheduler.rows_failed(worker, task.task, 0, OOPS, bad(sample_id)) == []
    assert judged == []
    ((worker, task),) = scheduler.assign()
    scheduler.rows_failed(worker, task.task, 0, OOPS, bad(4))

    assert judged == [4]


def test_deaths_are_counted_anew_when_a_sample_is_replaced():
    """The same sample may stand in two rows, at the end of an epoch: its replacement is not to blame for its deaths."""
    scheduler, _ = judging({77})
    for n in range(2):
        scheduler.fill(0, 0, slot=n, n=n, rows=1)
    holder, task_of = {}, {}  # n -> who makes it, and the task

    def assign(worker):
        scheduler.worker_joined(worker)
        for at, task in scheduler.assign():
            ((_, n, _, _),) = task.pieces
            holder[n], task_of[n] = at, task

    scheduler.worker_joined(0)
    assign(1)
    for worker, n in enumerate([1] * (DEATHS - 1) + [0] * DEATHS, start=2):
        scheduler.rows_begun(holder[n], task_of[n].task)
        scheduler.worker_lost(holder[n])
        assign(worker)
    assert task_of[0].blame
    scheduler.rows_failed(holder[0], task_of[0].task, 0, OOPS, bad(77))

    scheduler.worker_lost(holder[1])
    assign(99)

    assert [task_of[n].blame for n in range(2)] == ["", ""]


def test_a_retired_worker_ends_its_tasks_and_gets_no_more():
    scheduler = pool_of(2)
    for slot in range(8):
        scheduler.fill(0, 0, slot, n=slot, rows=100)
    tasks = [task for worker, task in scheduler.assign() if worker == 1]

    assert scheduler.worker_retired(1)
    assert scheduler.dismissable() == []
    for task in tasks:
        finish(scheduler, 1, task)

    assert 1 not in [worker for worker, _ in scheduler.assign()]
    assert scheduler.dismissable() == [1]
    assert scheduler.dismissable() == []


def test_a_forgotten_dataset_is_not_worked_on():
    scheduler = pool_of(1)
    scheduler.fill(dataset=5, arena=5, slot=0, n=0, rows=10)

    scheduler.forget(5)

    assert scheduler.assign() == []


def test_a_small_batch_is_finished_by_whom_makes_all_of_its_rows():
    scheduler = pool_of(1)

    scheduler.fill(0, 0, slot=0, n=0, rows=4, finishes=True)

    ((worker, task),) = scheduler.assign()
    assert task.pieces == [(0, 0, 0, 5)]
    assert [job.slot for job in finish(scheduler, worker, task)] == [0]


def test_a_batch_that_was_cut_is_finished_when_all_rows_are_there():
    scheduler = pool_of(2)

    scheduler.fill(0, 0, slot=0, n=0, rows=8, finishes=True)

    first, second = scheduler.assign()
    assert [task.pieces for _, task in (first, second)] == [[(0, 0, 0, 5)], [(0, 0, 5, 8)]]
    assert finish(scheduler, *first) == []
    assert scheduler.assign() == []
    assert finish(scheduler, *second) == []
    ((worker, last),) = scheduler.assign()
    assert last.pieces == [(0, 0, 8, 9)]
    assert [job.slot for job in finish(scheduler, worker, last)] == [0]


def test_who_dies_over_the_finish_of_a_batch_is_replaced_until_it_is_blamed():
    scheduler = pool_of(2)
    scheduler.fill(0, 0, slot=0, n=0, rows=8, finishes=True)
    for worker, task in scheduler.assign():
        finish(scheduler, worker, task)

    for _ in range(DEATHS + 1):  # the first of them had not been asked to say when it begins
        ((worker, task),) = scheduler.assign()
        assert task.pieces == [(0, 0, 8, 9)]
        scheduler.rows_begun(worker, task.task)
        assert scheduler.worker_lost(worker) == []
        scheduler.worker_joined(worker)

    ((_, task),) = scheduler.assign()
    assert "workers died while each made it alone" in task.blame


def test_a_late_answer_of_a_lost_worker_changes_nothing():
    scheduler = pool_of(1)
    scheduler.fill(0, 0, slot=0, n=0, rows=4)
    ((worker, task),) = scheduler.assign()
    scheduler.worker_lost(worker)

    assert finish(scheduler, worker, task) == []


class AnyHistory(RuleBasedStateMachine):
    """Any interleaving of batches, completions, errors and deaths: each row is in exactly one place."""

    tasks = Bundle("tasks")

    def __init__(self):
        super().__init__()
        self.scheduler = Scheduler(50, judge=lambda dataset, sample, error: error if sample.id % 2 else None)
        self.now = 0.0
        self.workers = set()
        self.jobs = {}  # slot -> n; a second attempt has a slot of its own
        self.ended = Counter()
        self.fates = {}  # n -> the errors that its attempts ended with
        self.held = {}  # task number -> (worker, rows)
        self.past = {}  # task number -> worker; those that were answered, or lost
        self.retired = {}  # worker -> the tasks that it had then
        self.datasets = {}  # n -> dataset
        self.finishes = {}  # n -> the row that is made out of all others, if there is one
        self.written = set()  # (slot, row)
        self.numbers = iter(range(10**9))

    def take(self, jobs):
        for job in jobs:
            self.ended[job.slot] += 1
            self.fates.setdefault(job.n, []).append(job.error)
            assert not any(slot == job.slot for _, rows in self.held.values() for slot, _ in rows), "it is written to"
            if job.error is None:
                assert {(job.slot, row) for row in range(job.rows)} <= self.written, "rows are missing"

    def fill_rows(self, worker, number, seconds=0.001):
        self.past[number], (_, rows) = worker, self.held.pop(number)
        self.written.update(rows)
        self.take(self.scheduler.rows_filled(worker, number, seconds))

    def fail_rows(self, worker, number, piece, sample=None):
        """Piece number `piece` raises: those before it are written."""
        self.past[number] = worker
        del self.held[number]
        pieces = self.scheduler._workers[worker].tasks[number]
        failing = piece % len(pieces)
        self.written |= {(each.job.slot, row) for each in pieces[:failing] for row in range(each.start, each.stop)}
        self.take(self.scheduler.rows_failed(worker, number, failing, OOPS, sample))

    def tasks_of(self, worker):
        return {number for number, (holder, _) in self.held.items() if holder == worker}

    @initialize(seconds=st.sampled_from([1e-5, 1e-3]))
    def learn_what_rows_cost(self, seconds):
        """Before that is known, no task has several pieces."""
        for dataset in range(2):
            self.join()
            self.fill(8, dataset, batches=1)
            self.end(self.assign(), seconds, "filled", piece=0, sample=None, begun=False)

    @rule()
    def join(self):
        worker = next(self.numbers)
        self.workers.add(worker)
        self.scheduler.worker_joined(worker)

    @rule(rows=st.integers(1, 40), dataset=st.integers(0, 2), batches=st.integers(1, 3), finishes=st.booleans())
    def fill(self, rows, dataset, batches, finishes=False):
        for _ in range(batches):
            n = next(self.numbers)
            self.jobs[n] = n
            self.datasets[n] = dataset
            self.finishes[n] = rows if finishes else None
            self.scheduler.fill(dataset, dataset, slot=n, n=n, rows=rows, finishes=finishes)

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0]))
    def look_at_the_clock(self, seconds):
        """Twice: how long somebody has been at a task is told by the second look."""
        for _ in range(2):
            self.now += seconds
            overdue, late = self.scheduler.watch(self.now)
            assert set(overdue) <= {worker for worker, _ in self.held.values()}
            for job in late:
                assert self.ended[job.slot] == 0
                slot = next(self.numbers)
                self.jobs[slot] = job.n
                self.scheduler.fill_again(job, slot)

    @rule(target=tasks)
    def assign(self):
        assigned = self.scheduler.assign()
        for worker, task in assigned:
            assert worker in self.workers - self.retired.keys()
            assert {self.datasets[n] for _, n, *_ in task.pieces} == {task.dataset}, "an arena has one dataset"
            self.held[task.task] = (worker, rows_of(task))
            for slot, n, start, stop in task.pieces:
                if stop - 1 == self.finishes[n]:
                    assert {(slot, row) for row in range(start)} <= self.written, "it is finished too early"
        return assigned

    @rule(
        assigned=consumes(tasks),
        seconds=st.sampled_from([0.0, 1e-5, 1e-3, 1.0]),
        fate=st.sampled_from(["filled", "failed", "lost"]),
        piece=st.integers(0, 40),
        sample=st.sampled_from([None, None, None, bad(0), bad(1)]),
        begun=st.booleans(),
    )
    def end(self, assigned, seconds, fate, piece, sample, begun):
        for worker, task in assigned:
            if task.task not in self.held:
                continue  # lost with its worker
            if fate == "filled":
                self.fill_rows(worker, task.task, seconds)
            elif fate == "failed":
                self.fail_rows(worker, task.task, piece, sample)
            else:
                if begun:
                    self.scheduler.rows_begun(worker, task.task)
                self.workers.discard(worker)
                for number in self.tasks_of(worker):
                    del self.held[number]
                    self.past[number] = worker
                self.take(self.scheduler.worker_lost(worker))

    @precondition(lambda self: self.past)
    @rule(data=st.data(), good=st.booleans())
    def answer_late(self, data, good):
        """What a dead worker said comes last; or a message comes twice."""
        number = data.draw(st.sampled_from(sorted(self.past)))
        if good:
            assert self.scheduler.rows_filled(self.past[number], number, 0.001) == []
        else:
            assert self.scheduler.rows_failed(self.past[number], number, 0, OOPS) == []

    @precondition(lambda self: len(self.workers - self.retired.keys()) > 2)
    @rule(data=st.data())
    def retire(self, data):
        worker = data.draw(st.sampled_from(sorted(self.workers - self.retired.keys())))
        assert self.scheduler.worker_retired(worker)
        self.retired[worker] = self.tasks_of(worker)

    @rule()
    def dismiss(self):
        for worker in self.scheduler.dismissable():
            assert worker in self.retired
            assert not self.tasks_of(worker), "it still has tasks"
            self.workers.discard(worker)

    @invariant()
    def no_job_ends_twice(self):
        assert all(count == 1 for count in self.ended.values())

    @invariant()
    def no_row_is_made_in_two_places(self):
        made = Counter(row for _, rows in self.held.values() for row in rows)
        assert all(count == 1 for count in made.values())

    def teardown(self):
        """In the end, with a worker that works, every job ends."""
        self.workers.add(-1)
        self.scheduler.worker_joined(-1)
        for number, (worker, _) in list(self.held.items()):
            self.fill_rows(worker, number)
        for _ in range(10_000):
            assigned = self.assign()
            for worker, task in assigned:
                self.fill_rows(worker, task.task)
            if not assigned:
                break
        assert set(self.ended) == set(self.jobs)
        assert all(count == 1 for count in self.ended.values())
        for fates in self.fates.values():
            assert fates.count(None) <= 1, "two attempts both count"
            assert any(fate != OVERTAKEN for fate in fates), "each attempt gave way to the other"


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_wait_status_is_told_in_words():
    from loader_service.pool.engine import how_it_ended

    assert how_it_ended(11) == "killed by SIGSEGV"
    assert how_it_ended(3 << 8) == "ended with exit code 3"


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_row_is_made_once_for_any_number_of_workers(workers):
    scheduler = pool_of(workers)
    for slot in range(5):
        scheduler.fill(0, 0, slot, n=slot, rows=33)

    made = Counter()
    while assigned := scheduler.assign():
        for worker, task in assigned:
            made.update(rows_of(task))
            finish(scheduler, worker, task)

    assert made == {(slot, row): 1 for slot in range(5) for row in range(33)}
