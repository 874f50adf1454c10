"""The daemon's side of the pool: which workers there are, what each has been told, tasks out, facts in.

What happens to rows is the scheduler's rule, and how many workers there should be the roster's; here they meet the
processes. Datasets are opened by workers, since the loop never touches data: the first one makes the index and tells
what the dataset is (openings.py); the others are told before their first task of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from loader_service.config import Settings
from loader_service.daemon.datasets import Served
from loader_service.daemon.door import Door, Peer
from loader_service.daemon.memory import mebibytes
from loader_service.daemon.openings import LOST, Openings
from loader_service.daemon.router import Router, Sent
from loader_service.machine import most_descriptors, private_memory
from loader_service.pool.backlog import Job
from loader_service.pool.engine import Ended, LocalEngine, Started, Template
from loader_service.pool.roster import Roster, WorkerState
from loader_service.pool.scheduler import Scheduler
from loader_service.protocol.address import Address
from loader_service.protocol.codec import MAX_NBYTES, encode
from loader_service.protocol.errors import ConfigError, ProtocolError
from loader_service.protocol.ledger import BadSample
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.messages import (
    CloseDataset,
    DatasetOpened,
    DatasetRefused,
    Failed,
    Leave,
    OpenDataset,
    OpenStream,
    ReplaceSamples,
    RowsBegun,
    RowsFailed,
    RowsFilled,
    SamplesKnown,
    ShareArena,
    ShareTable,
    WorkerJoined,
)
from loader_service.protocol.shard import Shard
from loader_service.protocol.tables import TableStore, tables_in

log = logging.getLogger(__name__)

LAST_BREATH = 1.0  # seconds that a worker may take to end after it has hung up
LAST_WORDS = 0.2  # seconds that a worker which is to be killed has to write its stack into the log
WEIGHED = 1.0  # seconds between looks at how much memory the workers take
ROOM_FOR_INDEX = 2**16  # bytes that the index may add to a declaration
DESCRIPTORS = 3  # of the daemon, for each worker: its handle, its lifeline, its messages
OTHER_DESCRIPTORS = 32  # sockets, logs, arenas, some clients


def check_descriptors(workers: int) -> None:
    """See to it that the daemon may have as many files open as so many workers take.

    Raises:
        ConfigError: If it may not.
    """
    needed, most = workers * DESCRIPTORS + OTHER_DESCRIPTORS, most_descriptors()
    if needed > most:
        raise ConfigError(
            f"{workers} workers need {needed} file descriptors, and the daemon may have {most}: "
            "raise `ulimit -n` where it is started, or have fewer workers"
        )


class Listener(Protocol):
    """Who is told what the workers have done."""

    def jobs_ended(self, jobs: Iterable[Job]) -> None:
        """All rows of these slots are filled, or cannot be."""

    def samples_known(self, key: str, samples: list[BadSample]) -> None:
        """These samples of a key stand in its ledger's file."""

    def sample_failed(self, dataset: int, sample: BadSample, error: Failed) -> Failed | None:
        """A sample cannot be made. Return the error that its batch fails with; None if it is replaced."""

    def job_late(self, job: Job) -> bool:
        """The rows of this slot are kept waiting. Return whether they are made in another one as well."""
        ...

    def dataset_opened(self, opened: DatasetOpened) -> None:
        """A dataset that was to be opened is what this says."""

    def dataset_refused(self, dataset: int, error: Failed) -> None:
        """A dataset cannot be opened."""

    def pool_settled(self) -> None:
        """There are as many workers as wanted, and all accept tasks."""


@dataclass(eq=False)
class _Worker:
    """A worker that has come in, and what it has been told."""

    peer: Peer
    joined: bool = False
    datasets: set[int] = field(default_factory=set)
    arenas: set[int] = field(default_factory=set)


class Workers:
    """The pool, as the event loop sees it."""

    def __init__(
        self,
        address: Address,
        router: Router,
        tables: TableStore,
        settings: Settings,
        *,
        template: Template | None,
        listener: Listener,
        turn: Callable[[], None],
    ) -> None:
        check_descriptors(settings.worker_count())
        self.roster = Roster(settings.worker_count())
        self.scheduler = Scheduler(settings.task_timeout, listener.sample_failed)
        self.settled = asyncio.Event()  # once, when there were as many as wanted for the first time
        self._settings = settings
        self._given_up: dict[int, str] = {}  # workers that are to be killed, and why
        self._next_weighing = 0.0
        self._address, self._router, self._tables = address, router, tables
        self._listener, self._turn = listener, turn
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, _Worker] = {}
        self._numbers: dict[bytes, int] = {}  # identity -> worker
        self._openings = Openings()
        self._served: dict[int, Served] = {}
        self._door: Door
        self._start_engine(template)

    def start(self, door: Door) -> None:
        """Start the workers; they come in by `door`."""
        self._door = door
        self._muster()

    def close(self) -> None:
        """End every worker, and the template."""
        self._loop.remove_reader(self._engine.fileno())
        self._engine.close()

    def scale(self, wanted: int) -> None:
        """Have so many workers from now on; `pool_settled` is told when it is so."""
        self.roster.wanted = wanted
        self._muster()

    # -- datasets --------------------------------------------------------------------------------------------

    def open(self, dataset: int, declaration: dict[str, Any], shard: Shard, bundles: bool) -> None:
        """Have a worker open a dataset; the listener is told what it is, or why it is none.

        Raises:
            ProtocolError: If the declaration is too large to travel.
        """
        came = OpenStream(0, declaration, 0, shard)  # no larger than the message that it came in
        if len(encode(came)) > MAX_NBYTES - ROOM_FOR_INDEX:
            raise ProtocolError(
                f"a dataset may be declared in {MAX_NBYTES - ROOM_FOR_INDEX:,} bytes: "
                "pass long lists of ids or labels as NumPy arrays."
            )
        self._openings.add(dataset, declaration, shard, bundles)
        self._open_waiting()

    def serve(self, served: Served) -> None:
        """Rows of this dataset may be asked for from now on."""
        self._served[served.number] = served
        if served.info.live:
            self.scheduler.pin(served.number)

    def fill(self, dataset: int, slot: int, n: int) -> None:
        """Have batch `n` of a dataset made in a slot."""
        served = self._served[dataset]
        self.scheduler.fill(dataset, dataset, slot, n, served.parts(n), finishes=bool(served.info.stage))

    def replace(self, dataset: int, samples: list[int]) -> None:
        """Tell those who know a dataset of further samples that are replaced: rows of later tasks heed it."""
        self.scheduler.samples_replaced(dataset)  # who is blamed now would be the sample that stands there instead
        for number, worker in self._workers.items():
            if dataset in worker.datasets:
                self._send(number, ReplaceSamples(dataset, samples))

    def fill_again(self, job: Job, slot: int) -> None:
        """Have a late job's batch made in another slot as well."""
        self.scheduler.fill_again(job, slot)

    def forget(self, dataset: int) -> None:
        """Nobody reads this dataset any more, or waits for it to be opened."""
        self._openings.forget(dataset)
        self._served.pop(dataset, None)
        self.scheduler.forget(dataset)
        for number, worker in self._workers.items():
            if dataset in worker.datasets:
                worker.datasets.discard(dataset)
                worker.arenas.discard(dataset)
                self._send(number, CloseDataset(dataset))

    # -- time ------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look at the clock, every so often: who takes too long, and who takes too much."""
        now = time.monotonic()
        overdue, late = self.scheduler.watch(now)
        for worker in overdue:
            self._give_up(worker)
        for job in late:
            if self._listener.job_late(job):
                break  # one at a look: all who are idle make it together
        if self._settings.worker_memory is not None and now >= self._next_weighing:
            self._next_weighing = now + WEIGHED
            self._replace_greedy(self._settings.worker_memory)

    def _give_up(self, worker: int) -> None:
        """Kill a worker that is at one thing for too long."""
        if worker in self._given_up:
            return  # it is in the kernel's hands: it ends when the disk that it waits for answers
        self._given_up[worker] = f"killed after more than {self._settings.task_timeout:g} s at one task (task_timeout)"
        pid = self.roster.members[worker].pid
        log.warning("worker %d (pid %s) takes too long, and is killed; its stack, if it can tell:", worker, pid)
        self._engine.log_stack(worker)
        self._loop.call_later(LAST_WORDS, self._engine.kill, worker)
        self.roster.killed(worker)
        self.scheduler.worker_retired(worker)
        self._muster()

    def _replace_greedy(self, limit: int) -> None:
        """Send workers away whose own memory has outgrown its limit, once they are done with their tasks."""
        for member in list(self.roster.members.values()):
            if member.state is not WorkerState.READY or member.pid is None:
                continue
            own = private_memory(member.pid)
            if own > limit:
                took = f"{mebibytes(own)} of its own memory, more than {mebibytes(limit)} (worker_memory)"
                log.warning(
                    "worker %d (pid %s) has taken %s: another one takes its place", member.number, member.pid, took
                )
                self.roster.sent_away(member.number)
                self.scheduler.worker_retired(member.number)
                self._muster()

    # -- turns -----------------------------------------------------------------------------------------------

    def take(self) -> int:
        """Take in what workers have sent. Return how many messages that were."""
        count = 0
        for identity, message in self._router.take(self._numbers):
            count += 1
            if message is None:
                continue  # of one that was let go, or never let in
            worker = self._numbers[identity]
            if isinstance(message, ProtocolError):
                self._doubt(worker, message)
            else:
                self._receive(worker, message)
        return count

    def send_tasks(self) -> int:
        """Hand out what can be handed out. Return how many tasks that were."""
        assigned = self.scheduler.assign()
        for worker, task in assigned:
            self._prepare(self._workers[worker], worker, self._served[task.dataset])
            self._send(worker, task)
        return len(assigned)

    def _receive(self, worker: int, message: Any) -> None:
        match message:
            case RowsFilled():
                self._listener.jobs_ended(self.scheduler.rows_filled(worker, message.task, message.seconds))
                self._dismiss_idle()
            case RowsFailed():
                ended = self.scheduler.rows_failed(worker, message.task, message.piece, message.error, message.sample)
                self._listener.jobs_ended(ended)
                self._dismiss_idle()
            case WorkerJoined() if not self._workers[worker].joined:
                self._workers[worker].joined = True
                self.scheduler.worker_joined(worker)
                if not self.roster.joined(worker):  # it was sent away while it started
                    self.scheduler.worker_retired(worker)
                self._muster()
            case SamplesKnown():
                self._listener.samples_known(message.key, message.samples)
            case DatasetOpened():
                self.scheduler.worker_opened(worker)
                self._door.drain(self._workers[worker].peer)
                if (opened := self._openings.opened(worker, message)) is not None:
                    self._conclude(opened)
            case DatasetRefused():
                self.scheduler.worker_opened(worker)
                self._workers[worker].datasets.discard(message.dataset)
                self._refuse(message)
            case _:
                self._doubt(worker, ProtocolError(f"{type(message).__name__} from one that has joined already"))

    def _doubt(self, worker: int, error: ProtocolError) -> None:
        """A worker has said what it cannot mean: what else it says, or writes, is no better."""
        log.error("worker %d is killed: %s", worker, error)
        self._engine.kill(worker)

    def _send(self, worker: int, message: Any) -> None:
        if self._router.send(self._workers[worker].peer.identity, message) is not Sent.WELL:
            self._engine.kill(worker)  # it is dead, or does not read: what it had to do is done elsewhere

    def _prepare(self, worker: _Worker, number: int, served: Served) -> None:
        """Tell a worker what it must know before its first task of a dataset."""
        if served.number not in worker.datasets:
            self._hand_tables(worker, served.tables)
            worker.datasets.add(served.number)
            info, replaced = served.info, served.ledger.ids
            known = served.declaration, served.opened.index, served.shard, info.key, replaced
            self._send(number, OpenDataset(served.number, *known, bundles=info.bundle > 1))
        if served.number not in worker.arenas:
            worker.arenas.add(served.number)
            self._door.hand(worker.peer, ShareArena(served.number, served.mapped_nbytes), served.arena)

    def _hand_tables(self, worker: _Worker, tables: set[str]) -> None:
        """Hand over what a dataset needs; also what the worker has for another one, which may be closed first."""
        for table in tables:
            self._door.hand(worker.peer, ShareTable(table), self._tables.fd(table))

    # -- opening datasets ------------------------------------------------------------------------------------

    def _open_waiting(self) -> None:
        """Have the least busy workers open each dataset that waits for one."""
        while (assigned := self._openings.assign(self.scheduler.load())) is not None:
            opening, numbers = assigned
            for number in numbers:
                worker = self._workers[number]
                self._hand_tables(worker, set(tables_in(opening.declaration)))
                worker.datasets.add(opening.dataset)
                self.scheduler.worker_opens(number)
                declaration, shard, blame = opening.declaration, opening.shard, opening.blame
                asked = OpenDataset(opening.dataset, declaration, {}, shard, "", blame=blame, bundles=opening.bundles)
                self._send(number, asked)

    def _conclude(self, opened: DatasetOpened) -> None:
        """A dataset is what this says."""
        if self._openings.forget(opened.dataset):
            self._listener.dataset_opened(opened)
        for number, worker in self._workers.items():
            if opened.dataset not in worker.datasets:
                continue
            if opened.dataset not in self._served:  # nobody waits any more, or its key is served under another number
                worker.datasets.discard(opened.dataset)
                self._send(number, CloseDataset(opened.dataset))
            worker.peer.tables.clear()

    def _refuse(self, refused: DatasetRefused) -> None:
        """A dataset cannot be opened."""
        self._openings.forget(refused.dataset)
        self._listener.dataset_refused(refused.dataset, refused.error)

    # -- workers come and go ---------------------------------------------------------------------------------

    def welcome(self, peer: Peer) -> bool:
        """Let a worker in, if it is one of ours."""
        self._hear_engine()  # the template has told of this worker before it let it run
        for member in self.roster.members.values():
            if member.pid == peer.pid and member.number not in self._workers:
                self._numbers[peer.identity] = member.number
                self._workers[member.number] = _Worker(peer)
                return True
        return False

    def begun(self, peer: Peer, message: RowsBegun) -> None:
        """A worker begins with what others may have died of."""
        self.scheduler.rows_begun(self._numbers[peer.identity], message.task)

    def gone(self, peer: Peer) -> None:
        """A worker has hung up: it is ending, or confused. That it is dead, the template will say."""
        worker = self._numbers.get(peer.identity)
        if worker is not None:
            self.scheduler.worker_retired(worker)
            self._loop.call_later(LAST_BREATH, self._engine.kill, worker)

    def _start_engine(self, template: Template | None = None) -> None:
        self._engine = LocalEngine(self._address, template)
        self._loop.add_reader(self._engine.fileno(), self._hear_engine)

    def _hear_engine(self) -> None:
        try:
            facts = self._engine.facts()
        except PeerGone:
            log.error("the template died: all workers are replaced")
            self._loop.remove_reader(self._engine.fileno())
            facts = [Ended(worker, LOST) for worker in self._engine.close()]
            self._start_engine()
        for fact in facts:
            match fact:
                case Started():
                    self.roster.started(fact.worker, fact.pid)
                case Ended():
                    self._worker_ended(fact)
        self._muster()
        self._loop.call_soon(self._turn)

    def _worker_ended(self, fact: Ended) -> None:
        member = self.roster.ended(fact.worker, time.monotonic())
        if member is None:
            return
        known = self._workers.get(fact.worker)
        if known is not None:
            self._door.drain(known.peer)  # its last words
            self._door.dismiss(known.peer, "dead")
            del self._workers[fact.worker], self._numbers[known.peer.identity]
        how = self._given_up.pop(fact.worker, fact.how)
        self._listener.jobs_ended(self.scheduler.worker_lost(fact.worker, how))
        level = logging.INFO if member.state is WorkerState.RETIRING else logging.WARNING
        log.log(level, "worker %d (pid %s) %s", fact.worker, member.pid, how)
        for told in self._openings.worker_ended(fact.worker, how):
            if isinstance(told, DatasetOpened):
                self._conclude(told)
            else:
                self._refuse(told)

    def _muster(self) -> None:
        """Bring the pool to its wanted size, and what waits for workers to them."""
        now = time.monotonic()
        for worker in self.roster.start(now):
            self._engine.start(worker)
        for worker in self.roster.retire():
            if not self.scheduler.worker_retired(worker):
                self._engine.kill(worker)  # it has not joined: there is nothing to lose
        self._dismiss_idle()
        if pause := self.roster.pause(now):
            self._loop.call_later(pause, self._muster)
        self._open_waiting()
        if self.roster.is_settled():
            self.settled.set()
            self._listener.pool_settled()

    def _dismiss_idle(self) -> None:
        """Send retired workers away once they have nothing to do."""
        for worker in self.scheduler.dismissable():
            if worker in self._workers:
                self._send(worker, Leave())
