"""Which rows to which worker, and what to do again when one is lost. Rules only: no socket, clock or process.

Each worker has a second task at hand while it works on the first; how tasks are cut is in backlog.py. Pieces come back
to the front of the queue when their worker is lost; a piece that was being worked on then is suspect: it runs alone, in
PARTS, until a single row has cost DEATHS workers. Only those that had begun with it count: a worker that is killed by
others while it opens the dataset says nothing of its first row. Then a worker is told to name the sample in that row,
and not to touch it.

A sample that raises ATTEMPTS times, or that is named for those deaths, is judged: its batch fails, or the sample is
replaced and the rows are made again.

Nothing more is queued behind a task that takes LONG, whatever it was expected to take. While somebody is idle, what
another dataset has there already is not waited for, nor a task that takes far longer than others do: the batch becomes
a second job, in another slot, and what is done first counts. Never the same slot: the slow worker still writes there.
A task that takes longer than `task_timeout` costs its worker its life.

A dataset that is read live is pinned: one worker makes all of it, in the order in which it is asked for. Nothing of it
is made twice, unless that worker dies.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise

from loader_service.pool.backlog import LONG, Backlog, Job, Piece
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import LoaderError, SampleError
from loader_service.protocol.ledger import ATTEMPTS, BadSample
from loader_service.protocol.messages import Failed, FillRows

DEPTH = 2  # tasks that a worker has at hand
DEATHS = 3  # of workers that were at a single row, before it is blamed
LOSSES = 30  # of workers that were given a single row, whether they had begun or not
PARTS = 32  # that a suspect piece is cut into: few deaths to a single row, and few tasks
OPENINGS = 5  # times the timeout of a task: what opening a dataset may take


@dataclass(eq=False)
class _Worker:
    #: task number -> its pieces; in the order in which the worker runs them
    tasks: dict[int, list[Piece]] = field(default_factory=dict)
    retiring: bool = False
    begun: int | None = None  # the last task that it said it begins with
    opening: bool = False  # a dataset, which may take long
    doing: int | None = None  # the task that it was at when the clock was last looked at; OPENING; or nothing
    since: float = 0.0  # seconds; when it was first seen at that
    long: bool = False  # at it: others had better not wait behind it


OPENING = -1  # in the place of a task's number
OVERTAKEN = failed(LoaderError("another attempt was first"))


#: (dataset, its sample that cannot be made, the error) -> the error that its batch fails with; None: it is replaced
Judge = Callable[[int, BadSample, Failed], Failed | None]


class Scheduler:
    """The pool's work: what waits, what runs where, how long rows take."""

    def __init__(self, task_timeout: float = math.inf, judge: Judge = lambda dataset, sample, error: error) -> None:
        self._task_timeout = task_timeout  # seconds
        self._judge = judge
        self._workers: dict[int, _Worker] = {}
        self._backlogs: dict[int, Backlog] = {}  # dataset -> what waits of it
        self._turn: deque[int] = deque()  # datasets, the next one to be served in front
        self._next_task = 0
        self.redone = 0  # rows given to a worker once more
        self.second_attempts = 0  # batches made twice at a time

    # -- workers ---------------------------------------------------------------------------------------------

    def worker_joined(self, worker: int) -> None:
        """Give it tasks from now on."""
        self._workers[worker] = _Worker()

    def worker_retired(self, worker: int) -> bool:
        """Give it no further tasks. Return whether it was known here; `dismissable` tells when it may go."""
        if worker not in self._workers:
            return False
        self._workers[worker].retiring = True
        return True

    def dismissable(self) -> list[int]:
        """Return the retired workers that have no task left; each once."""
        found = [
            number
            for number, worker in self._workers.items()
            if worker.retiring and not worker.tasks and not worker.opening
        ]
        for number in found:
            del self._workers[number]
        return found

    def worker_opens(self, worker: int) -> None:
        """It opens a dataset, which may take long: what can be done by others is not left to it."""
        self._workers[worker].opening = True

    def worker_opened(self, worker: int) -> None:
        """It is done with that."""
        self._workers[worker].opening = False

    def worker_lost(self, worker: int, how: str = "lost") -> list[Job]:
        """It is dead for certain: its rows are to be made again. Return the jobs that this ended."""
        lost = self._workers.pop(worker, None)
        if lost is None:
            return []
        ended: list[Job] = []
        for number, (task, pieces) in enumerate(reversed(lost.tasks.items())):
            was_running = number == len(lost.tasks) - 1
            for piece in reversed(pieces):
                self.redone += piece.rows
                if was_running:
                    alone = len(pieces) == len(lost.tasks) == 1
                    ended += self._suspect(piece, how, alone=alone, begun=task == lost.begun)
                else:
                    ended += self._requeue(piece)
        return ended

    def load(self) -> dict[int, int]:
        """Return how many tasks each worker has that is given tasks."""
        return {
            number: len(worker.tasks) + worker.opening
            for number, worker in self._workers.items()
            if not worker.retiring
        }

    # -- time ------------------------------------------------------------------------------------------------

    def watch(self, now: float) -> tuple[list[int], list[Job]]:
        """Look at the clock, every so often.

        Return the workers that are at one thing for too long, and the jobs that deserve a second attempt while somebody
        has nothing to do. A worker is told of until it is lost, a job until it has one.
        """
        overdue: list[int] = []
        late: dict[Job, None] = {}
        idle = not any(self._backlogs.values()) and any(not worker.tasks for worker in self._free_workers())
        for number, worker in self._workers.items():
            doing = next(iter(worker.tasks), OPENING if worker.opening else None)
            if doing != worker.doing:
                worker.doing, worker.since = doing, now
            worker.long = False
            if doing is None:
                continue
            took = now - worker.since
            if took > self._task_timeout * (OPENINGS if doing == OPENING else 1):
                overdue.append(number)
            worker.long = doing != OPENING and took > LONG
            if worker.long and idle:
                late.update(dict.fromkeys(self._kept_waiting(worker, took)))
        return overdue, list(late)

    def fill_again(self, job: Job, slot: int) -> None:
        """Have a late job's batch made in another slot as well: what is done first counts."""
        rival = Job(job.dataset, job.arena, slot, job.n, job.rows, job.rows, job.finish, rival=job)
        job.rival = rival
        self.second_attempts += 1
        self._enqueue(rival)

    # -- work ------------------------------------------------------------------------------------------------

    def pin(self, dataset: int) -> None:
        """Have one worker at a time make this dataset: it is read live."""
        self._begin(dataset, Backlog(pinned=True))

    def fill(self, dataset: int, arena: int, slot: int, n: int, rows: int, *, finishes: bool = False) -> None:
        """Have rows 0 .. rows - 1 of batch `n` made in `slot`; then, if it has a finish, row number `rows`."""
        if dataset not in self._backlogs:
            self._begin(dataset, Backlog())
        rows += finishes
        self._enqueue(Job(dataset, arena, slot, n, rows, rows, finishes))

    def rows_begun(self, worker: int, task: int) -> None:
        """It begins with a task that it was to announce."""
        if worker in self._workers:
            self._workers[worker].begun = task

    def rows_filled(self, worker: int, task: int, seconds: float) -> list[Job]:
        """A task is done. Return the jobs that this ended."""
        pieces = self._take_task(worker, task)
        if pieces and (backlog := self._backlogs.get(pieces[0].job.dataset)) is not None:
            backlog.took(seconds, sum(piece.rows for piece in pieces))
        return self._account(pieces)

    def rows_failed(
        self, worker: int, task: int, piece: int, error: Failed, sample: BadSample | None = None
    ) -> list[Job]:
        """Piece number `piece` of a task raised: those before it are filled, those after it not begun."""
        pieces = self._take_task(worker, task)
        if piece >= len(pieces):
            return self._account(pieces)
        culprit = pieces[piece]
        ended: list[Job] = []
        for untouched in reversed(pieces[piece + 1 :]):
            ended += self._requeue(untouched)
        who = None if sample is None else sample.id
        culprit.raised[who] = culprit.raised.get(who, 0) + 1
        self.redone += culprit.rows
        if culprit.raised[who] < ATTEMPTS and not culprit.blame and not self._is_pinned(culprit.job):
            ended += self._requeue(culprit)
        else:
            verdict = error if sample is None else self._judge(culprit.job.dataset, sample, error)
            ended += self._acquit(culprit) if verdict is None else self._fail(culprit, verdict)
        return ended + self._account(pieces[:piece])

    def samples_replaced(self, dataset: int) -> None:
        """Count deaths of a dataset's rows anew: one of the samples that are replaced may have stood in them."""
        tasks = [task for worker in self._workers.values() for task in worker.tasks.values()]
        waiting = self._backlogs[dataset].pieces if dataset in self._backlogs else ()
        for piece in chain(waiting, *tasks):
            if piece.job.dataset == dataset:
                piece.acquit()

    def forget(self, dataset: int) -> None:
        """Nobody wants this dataset's rows any more; tasks that run end as they will."""
        if self._backlogs.pop(dataset, None) is not None:
            self._turn.remove(dataset)

    def assign(self) -> list[tuple[int, FillRows]]:
        """Hand out what can be handed out: (worker, task) pairs."""
        assigned = []
        while (chosen := self._choose()) is not None:
            worker, dataset = chosen
            if self._workers[worker].tasks and self._backlogs[dataset].first.suspect:
                break  # it runs alone: if its worker dies, nothing else may have been the reason
            pieces = self._cut(dataset)
            self._turn.rotate(-1)
            task, self._next_task = self._next_task, self._next_task + 1
            self._workers[worker].tasks[task] = pieces
            job = pieces[0].job
            rows = [(piece.job.slot, piece.job.n, piece.start, piece.stop) for piece in pieces]
            announce = pieces[0].suspect and not pieces[0].blame
            assigned.append((worker, FillRows(task, job.dataset, job.arena, rows, pieces[0].blame, announce)))
        return assigned

    # -- within ----------------------------------------------------------------------------------------------

    def _free_workers(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if self._is_free(worker)]

    def _is_free(self, worker: _Worker) -> bool:
        """Whether it may be given a task."""
        suspects = any(pieces[0].suspect for pieces in worker.tasks.values())
        return len(worker.tasks) < DEPTH and not (worker.retiring or worker.opening or worker.long or suspects)

    def _is_late(self, pieces: list[Piece], took: float) -> bool:
        """Whether a task takes far longer than was to be expected."""
        backlog = self._backlogs.get(pieces[0].job.dataset)
        return backlog is not None and backlog.is_late(pieces, took)

    def _is_pinned(self, job: Job) -> bool:
        backlog = self._backlogs.get(job.dataset)
        return backlog is not None and backlog.pinned

    def _kept_waiting(self, worker: _Worker, took: float) -> Iterator[Job]:
        """Yield the jobs that a task which takes long keeps waiting, and that nobody else makes; none of suspects."""
        first = next(iter(worker.tasks.values()))
        is_late = self._is_late(first, took)
        for piece in chain.from_iterable(worker.tasks.values()):
            job = piece.job
            waits = is_late or job.dataset != first[0].job.dataset
            helpless = piece.suspect or self._is_pinned(job) or job.dataset not in self._backlogs
            if waits and not helpless and job.error is None and job.rival is None:
                yield job

    def _begin(self, dataset: int, backlog: Backlog) -> None:
        self._backlogs[dataset] = backlog
        self._turn.append(dataset)

    def _enqueue(self, job: Job) -> None:
        self._backlogs[job.dataset].append(Piece(job, 0, job.rows))

    def _choose(self) -> tuple[int, int] | None:
        """Return a worker, and the dataset whose turn it is among those that have work for it."""
        if not any(self._backlogs.values()):
            return None
        free = [(len(worker.tasks), number) for number, worker in self._workers.items() if self._is_free(worker)]
        for _ in range(len(self._turn) if free else 0):
            dataset = self._turn[0]
            backlog = self._backlogs[dataset]
            worker = self._pinned_to(backlog, free) if backlog.pinned else min(free)[1]
            if backlog and worker is not None:
                return worker, dataset
            self._turn.rotate(-1)
        return None

    def _pinned_to(self, backlog: Backlog, free: list[tuple[int, int]]) -> int | None:
        """Return the worker that makes a dataset which is read live, if it is free.

        Another one, if it is gone: not before all is known of what it was given, which comes before what waits.
        """
        pinned = None if backlog.worker is None else self._workers.get(backlog.worker)
        if pinned is None or (pinned.retiring and not pinned.tasks):
            backlog.worker = min(free)[1]
        return backlog.worker if any(number == backlog.worker for _, number in free) else None

    def _cut(self, dataset: int) -> list[Piece]:
        """Return the pieces of a dataset's next task. All belong to one dataset, and so to one arena."""
        return self._backlogs[dataset].cut(max(1, sum(not worker.retiring for worker in self._workers.values())))

    def _take_task(self, worker: int, task: int) -> list[Piece]:
        known = self._workers.get(worker)
        if known is None:
            return []
        known.long = False
        return known.tasks.pop(task, [])

    def _account(self, pieces: Iterable[Piece]) -> list[Job]:
        """Rows are filled, or nobody needs them any more."""
        ended = []
        for piece in pieces:
            job = piece.job
            job.missing -= piece.rows
            if job.held and job.missing == 1:
                job.held = False
                ended += self._requeue(Piece(job, job.rows - 1, job.rows))
            elif job.missing == 0:
                ended.append(job)
                if job.rival is not None:
                    ended += self._part(job, job.rival)
        return ended

    def _part(self, ended: Job, other: Job) -> list[Job]:
        """One of two attempts has ended: the other one is not needed any more; or is the only one from here on."""
        ended.rival = other.rival = None
        return self._drop(other, OVERTAKEN) if ended.error is None else []

    def _requeue(self, piece: Piece) -> list[Job]:
        """Put a piece back in front; unless its batch has failed meanwhile, or nobody wants its dataset."""
        if piece.job.error is not None:
            return self._account([piece])
        if piece.job.dataset in self._backlogs:
            self._backlogs[piece.job.dataset].put_back(piece)
        return []

    def _drop(self, job: Job, error: Failed) -> list[Job]:
        """None of a job's rows is worth a task any more; those that are being made end as they will."""
        job.error = error
        backlog = self._backlogs.get(job.dataset)
        return self._account(backlog.drop(job)) if backlog is not None else []

    def _fail(self, culprit: Piece, error: Failed) -> list[Job]:
        """A batch cannot be made."""
        return self._drop(culprit.job, error) + self._account([culprit])

    def _acquit(self, piece: Piece) -> list[Job]:
        """The sample that was the reason is replaced: make the rows again."""
        piece.acquit()
        self.samples_replaced(piece.job.dataset)
        return self._requeue(piece)

    def _suspect(self, piece: Piece, how: str, *, alone: bool, begun: bool) -> list[Job]:
        """Treat a piece whose worker died: it may be the reason."""
        rival = piece.job.rival
        if rival is not None and rival.error is None:
            return self._fail(piece, OVERTAKEN)  # the other attempt goes on, and nobody falls into the same hole
        piece.suspect = True
        if piece.rows > 1:
            piece.hold_finish()
            parts = min(PARTS, piece.rows)
            edges = [piece.start + piece.rows * part // parts for part in range(parts + 1)]
            ended: list[Job] = []
            for start, stop in reversed(list(pairwise(edges))):
                ended += self._requeue(Piece(piece.job, start, stop, piece.raised, suspect=True))
            return ended
        if alone:
            piece.deaths += begun
            piece.losses += 1
        if piece.losses >= LOSSES:  # nobody lives long enough to name the sample
            told = f"{LOSSES} workers died before they had made it; the last was {how}"
            return self._fail(piece, failed(SampleError(f"row {piece.start} of batch {piece.job.n}: {told}")))
        if piece.deaths >= DEATHS:
            piece.blame = f"{DEATHS} workers died while each made it alone; the last was {how}"
        return self._requeue(piece)
