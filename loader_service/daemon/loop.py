"""The daemon's event loop: messages in, rules, messages out. The only file that touches ZeroMQ in the daemon.

    clients --requests-->  Shelf: which slot  --fill-->  Scheduler: which rows to whom  --tasks-->  workers
    clients <--batches--   Shelf: who waits   <--jobs--  Scheduler: is it complete      <--filled-- workers

ZeroMQ's descriptor is edge-triggered: it may stay silent although messages wait, after any call on its socket. So a
turn of the loop drains both sockets until neither has anything and nothing was sent in between, and a slow timer takes
a turn now and then, in case a wake-up was lost all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from loader_service.config import Settings
from loader_service.daemon.control import status_of
from loader_service.daemon.datasets import Opening, Served, tables_in
from loader_service.daemon.door import Door, Peer
from loader_service.daemon.memory import available_memory, choose_slots, default_limit, mebibytes
from loader_service.daemon.streams import Fail, Fill, Instruction, Lend, StreamId
from loader_service.pool.engine import Ended, LocalEngine, Started
from loader_service.pool.roster import Roster
from loader_service.pool.scheduler import Job, Scheduler
from loader_service.protocol.address import Address, hold
from loader_service.protocol.arena import create_memory
from loader_service.protocol.codec import MAX_NBYTES, decode, encode, error_of, failed
from loader_service.protocol.errors import DaemonLost, DaemonStopped, DatasetError, LoaderError, ProtocolError
from loader_service.protocol.layout import Layout
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import descriptor
from loader_service.protocol.messages import (
    BatchesReady,
    BatchFailed,
    CloseDataset,
    CloseStream,
    DatasetOpened,
    DatasetRefused,
    Failed,
    GetStatus,
    Leave,
    OpenDataset,
    OpenStream,
    RequestBatches,
    ResetStream,
    ReturnSlots,
    RowsFailed,
    RowsFilled,
    Scale,
    ShareArena,
    ShareTable,
    Status,
    Stop,
    StreamFailed,
    WorkerJoined,
)
from loader_service.protocol.tables import TableStore

log = logging.getLogger(__name__)

SAFETY_TURN = 0.1  # seconds between turns that nobody asked for
GRACE = 30.0  # seconds that a dataset stays open after its last stream
OPEN_ATTEMPTS = 3  # workers that may die over opening a dataset
DRAIN = 64  # messages of one socket taken at a time, so that none starves the other
LAST_BREATH = 1.0  # seconds that a worker may take to end after it has hung up
LINGER = 500  # milliseconds for the last messages to leave


class _Worker:
    """What the daemon has told one worker."""

    def __init__(self, number: int, peer: Peer) -> None:
        self.number, self.peer = number, peer
        self.datasets: set[int] = set()
        self.arenas: set[int] = set()
        self.tables: set[str] = set()


class Daemon:
    """One daemon, from its first socket to its last."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.scheduler = Scheduler()
        self.roster = Roster(settings.worker_count())
        self.memory_limit = settings.memory or default_limit()
        self.served: dict[int, Served] = {}
        self._openings: dict[int, Opening] = {}  # dataset number -> who waits for it
        self._next_dataset = 0
        self._closing: dict[int, asyncio.TimerHandle] = {}  # datasets without a stream
        self._clients: dict[bytes, Peer] = {}
        self._worker_peers: dict[bytes, int] = {}  # identity -> worker
        self._workers: dict[int, _Worker] = {}  # those that have joined
        self._streams: dict[StreamId, int] = {}  # -> dataset number
        self._rounds: dict[StreamId, int] = {}  # of their last ResetStream
        self._lends: dict[StreamId, list[tuple[int, int, int]]] = {}  # gathered during a turn
        self._scaling: list[bytes] = []  # clients that wait for the roster to settle
        self._tables = TableStore()
        self._stop = asyncio.Event()
        self._crash: BaseException | None = None
        self._settled = asyncio.Event()

    @property
    def memory_used(self) -> int:
        """Bytes of all arenas."""
        return sum(served.nbytes for served in self.served.values())

    def client_pid(self, identity: bytes) -> int | None:
        """Return the pid of a client."""
        peer = self._clients.get(identity)
        return peer.pid if peer else None

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._stop.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until `stop`; call `ready` when the workers accept tasks.

        Raises:
            AddressInUse: If a live daemon holds the address.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._fail)
        with hold(self.address), contextlib.ExitStack() as ending:
            self._context = zmq.Context()
            ending.callback(self._context.term)
            self._to_clients = self._bind(self.address.clients)
            self._to_workers = self._bind(self.address.workers)
            ending.callback(self._close_sockets)
            self._door = Door(self.address, welcome=self._welcome, packet=self._handed_over, gone=self._peer_gone)
            ending.callback(self._door.close)
            self._engine = LocalEngine(self.address)
            ending.callback(self._close_engine)
            self._loop.add_reader(self._engine.fileno(), self._hear_engine)
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self.stop)
            for sock in (self._to_clients, self._to_workers):
                self._loop.add_reader(descriptor(sock), self._turn)
            self._turn_regularly()
            self._muster()
            for event in (self._settled, self._stop):
                waiting = [asyncio.ensure_future(each.wait()) for each in {event, self._stop}]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in waiting:
                    future.cancel()
                if not self._stop.is_set():
                    ready()
            self._end_streams()

        if self._crash is not None:
            raise self._crash

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake of ours in a callback: what it left half done could be a hang, so end, and say so."""
        self._crash = self._crash or context.get("exception") or RuntimeError(context["message"])
        log.critical("the daemon failed, and ends", exc_info=self._crash)
        self.stop()

    # -- the order of shutdown: streams are told, workers end, peers are hung up on, sockets close ------------

    def _end_streams(self) -> None:
        log.info("stopping", extra={"streams": len(self._streams)})
        if self._crash is None:
            ended = failed(DaemonStopped(f"the daemon at {self.address} was stopped: its streams have ended"))
        else:
            ended = failed(DaemonLost(f"the daemon at {self.address} failed: {self._crash!r}; its log tells more"))
        for identity, stream in self._streams:
            self._send_client(identity, StreamFailed(stream, ended))
        for opening in self._openings.values():
            self._send_client(opening.stream[0], StreamFailed(opening.stream[1], ended))
        self._streams.clear()

    def _close_engine(self) -> None:
        self._loop.remove_reader(self._engine.fileno())
        self._engine.close()

    def _close_sockets(self) -> None:
        self._timer.cancel()
        for sock in (self._to_clients, self._to_workers):
            self._loop.remove_reader(descriptor(sock))
            sock.close(linger=LINGER)
        for served in self.served.values():
            os.close(served.arena)
        self._tables.close()

    def _bind(self, endpoint: str) -> zmq.Socket[bytes]:
        sock = self._context.socket(zmq.ROUTER)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to nobody is an error, not silence
        sock.setsockopt(zmq.MAXMSGSIZE, MAX_NBYTES)
        sock.setsockopt(zmq.SNDHWM, 10_000)  # a client that does not read is let go when it has missed this many
        sock.setsockopt(zmq.RCVHWM, 10_000)
        sock.bind(endpoint)
        return sock

    # -- turns -----------------------------------------------------------------------------------------------

    def _turn_regularly(self) -> None:
        self._timer = self._loop.call_later(SAFETY_TURN, self._turn_regularly)
        self._turn()

    def _turn(self) -> None:
        """Take what has come, decide, send; until nothing comes and nothing is to be sent."""
        for _ in range(1000):  # then let other events have their turn
            took = self._take_from_workers() + self._take_from_clients()
            if took + self._send_decisions() == 0:
                return
        self._loop.call_soon(self._turn)

    def _take_from_workers(self) -> int:
        for count in range(DRAIN):
            try:
                identity, packed = self._to_workers.recv_multipart(zmq.NOBLOCK)
                worker = self._worker_peers.get(identity)
                if worker is not None:
                    self._from_worker(worker, decode(packed))
            except zmq.Again:
                return count
            except (ProtocolError, ValueError) as error:
                log.error("a worker sent what cannot be understood: %s", error)
        return DRAIN

    def _take_from_clients(self) -> int:
        for count in range(DRAIN):
            identity = b""
            try:
                identity, packed = self._to_clients.recv_multipart(zmq.NOBLOCK)
                if identity in self._clients:
                    self._from_client(identity, decode(packed))
            except zmq.Again:
                return count
            except ValueError:
                log.warning("a client sent a message of several parts: ignored")
            except LoaderError as error:
                log.warning("a client's message was refused: %s", error)
                self._send_client(identity, failed(error))
        return DRAIN

    def _send_decisions(self) -> int:
        """Send what this turn has decided. Return how many messages that were."""
        assigned = self.scheduler.assign()
        for worker, task in assigned:
            self._prepare(self._workers[worker], self.served[task.dataset])
            self._send_worker(worker, task)
        lends, self._lends = self._lends, {}
        for (identity, stream), batches in lends.items():
            self._send_client(identity, BatchesReady(stream, self._rounds.get((identity, stream), 0), batches))
        return len(assigned) + len(lends)

    def _send_client(self, identity: bytes, message: Any) -> None:
        try:
            self._to_clients.send_multipart([identity, encode(message)], zmq.NOBLOCK)
        except (zmq.Again, zmq.ZMQError) as error:
            peer = self._clients.get(identity)
            if peer is not None:
                log.warning("client does not read, and is let go", extra={"pid": peer.pid, "error": str(error)})
                self._loop.call_soon(self._door.dismiss, peer, "it does not read")

    def _send_worker(self, worker: int, message: Any) -> None:
        try:
            self._to_workers.send_multipart([self._workers[worker].peer.identity, encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.error("worker does not read, and is killed", extra={"worker": worker, "error": str(error)})
            self._engine.kill(worker)

    # -- peers -----------------------------------------------------------------------------------------------

    def _welcome(self, peer: Peer) -> bool:
        if peer.role == "client":
            self._clients[peer.identity] = peer
            return True
        self._hear_engine()  # the template has told of this worker before it let it run
        for member in self.roster.members.values():
            if member.pid == peer.pid and member.number not in self._worker_peers.values():
                self._worker_peers[peer.identity] = member.number
                self._workers[member.number] = _Worker(member.number, peer)
                return True
        return False

    def _handed_over(self, peer: Peer, message: Any, fd: int | None) -> None:
        """A peer sent a packet over its lifeline."""
        if isinstance(message, ShareTable) and fd is not None:
            self._tables.adopt(message.table, fd)
            return
        if fd is not None:
            os.close(fd)
        raise ProtocolError(f"{type(message).__name__} over the lifeline")

    def _peer_gone(self, peer: Peer) -> None:
        if peer.role == "client":
            self._clients.pop(peer.identity, None)
            for dataset, opening in list(self._openings.items()):
                if opening.stream[0] == peer.identity:
                    del self._openings[dataset]
            for stream in [stream for stream in self._streams if stream[0] == peer.identity]:
                self._close_stream(stream)
            self._turn()
        elif (worker := self._worker_peers.get(peer.identity)) is not None:
            # It is ending, or confused. What counts is the template's word that it is dead.
            self.scheduler.worker_retired(worker)
            self._loop.call_later(LAST_BREATH, self._engine.kill, worker)

    # -- workers come and go ---------------------------------------------------------------------------------

    def _hear_engine(self) -> None:
        try:
            facts = self._engine.facts()
        except PeerGone:
            log.error("the template died: all workers are replaced")
            self._loop.remove_reader(self._engine.fileno())
            facts = [Ended(worker, "lost with the template") for worker in self._engine.close()]
            self._engine = LocalEngine(self.address)
            self._loop.add_reader(self._engine.fileno(), self._hear_engine)
        for fact in facts:
            match fact:
                case Started():
                    self.roster.started(fact.worker, fact.pid)
                case Ended():
                    self._worker_ended(fact)
        self._muster()
        self._turn()

    def _worker_ended(self, fact: Ended) -> None:
        member = self.roster.ended(fact.worker, time.monotonic())
        if member is None:
            return
        told = self._workers.pop(fact.worker, None)
        if told is not None:
            del self._worker_peers[told.peer.identity]
            self._door.dismiss(told.peer, "dead")
        self._jobs_ended(self.scheduler.worker_lost(fact.worker))
        level = logging.INFO if member.state.value == "retiring" else logging.WARNING
        log.log(level, "worker %d (pid %s) %s", fact.worker, member.pid, fact.how)
        for dataset, opening in list(self._openings.items()):
            if opening.worker == fact.worker:
                opening.worker = None
                opening.tried += 1
                if opening.tried >= OPEN_ATTEMPTS:
                    told_why = f"{OPEN_ATTEMPTS} workers died while each opened the dataset; the last was {fact.how}"
                    self._refuse(dataset, failed(DatasetError(told_why)))

    def _muster(self) -> None:
        """Bring the pool to the wanted size, and what waits for workers to them."""
        now = time.monotonic()
        for worker in self.roster.start(now):
            self._engine.start(worker)
        for worker in self.roster.retire():
            if not self.scheduler.worker_retired(worker):
                self._engine.kill(worker)  # it has not joined: there is nothing to lose
        self._let_go()
        if pause := self.roster.pause(now):
            self._loop.call_later(pause, self._muster)
        self._open_waiting()
        if self.roster.is_settled():
            self._settled.set()
            for identity in self._scaling:
                self._send_client(identity, Status(status_of(self)))
            self._scaling.clear()

    def _let_go(self) -> None:
        """Send retiring workers away once they have nothing to do."""
        for worker in self.scheduler.dismissable():
            self._send_worker(worker, Leave())

    def _from_worker(self, worker: int, message: Any) -> None:
        match message:
            case RowsFilled():
                self._jobs_ended(self.scheduler.rows_filled(worker, message.task, message.seconds))
                self._let_go()
            case RowsFailed():
                self._jobs_ended(self.scheduler.rows_failed(worker, message.task, message.piece, message.error))
                self._let_go()
            case WorkerJoined():
                self.scheduler.worker_joined(worker)
                if not self.roster.joined(worker):  # it was sent away while it started
                    self.scheduler.worker_retired(worker)
                self._muster()
            case DatasetOpened():
                self._door.drain(self._workers[worker].peer)
                self._dataset_opened(worker, message)
            case DatasetRefused():
                self._workers[worker].datasets.discard(message.dataset)
                self._refuse(message.dataset, message.error)
            case _:
                raise ProtocolError(f"{type(message).__name__} from worker {worker}")

    def _jobs_ended(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            served = self.served.get(job.dataset)
            if served is None:
                continue
            if job.error is None:
                self._apply(served, served.shelf.filled(job.slot))
            else:
                log.info("batch %d failed: %s", job.n, job.error.message, extra={"key": served.opened.key})
                self._apply(served, served.shelf.failed(job.slot, job.error))

    def _prepare(self, worker: _Worker, served: Served) -> None:
        """Tell a worker what it must know before its first task of a dataset."""
        if served.number not in worker.datasets:
            self._hand_tables(worker, served.tables)
            worker.datasets.add(served.number)
            self._send_worker(worker.number, OpenDataset(served.number, served.declaration, served.opened.index))
        if served.number not in worker.arenas:
            worker.arenas.add(served.number)
            self._hand(worker.peer, ShareArena(served.number, served.nbytes), served.arena)

    def _hand_tables(self, worker: _Worker, tables: Iterable[str]) -> None:
        for table in set(tables) - worker.tables:
            worker.tables.add(table)
            self._hand(worker.peer, ShareTable(table), self._tables.fd(table))

    def _hand(self, peer: Peer, message: Any, fd: int) -> None:
        try:
            peer.lifeline.send(message, fd)
        except PeerGone as error:
            self._loop.call_soon(self._door.dismiss, peer, str(error))

    # -- clients ---------------------------------------------------------------------------------------------

    def _from_client(self, identity: bytes, message: Any) -> None:
        match message:
            case RequestBatches():
                stream = (identity, message.stream)
                served = self._served_by(stream)
                if message.returned:
                    self._apply(served, served.shelf.returned(stream, message.returned))
                if not message.first <= message.last < message.first + 65536:
                    raise ProtocolError(f"a request for batches {message.first} to {message.last}")
                self._apply(served, served.shelf.request(stream, range(message.first, message.last + 1)))
            case ReturnSlots():
                stream = (identity, message.stream)
                if stream in self._streams:
                    served = self._served_by(stream)
                    self._apply(served, served.shelf.returned(stream, message.slots))
            case ResetStream():
                stream = (identity, message.stream)
                served = self._served_by(stream)
                self._lends.pop(stream, None)
                self._rounds[stream] = message.round
                self._apply(served, served.shelf.reset(stream, message.keeps))
            case OpenStream():
                self._open_stream(identity, message)
            case CloseStream():
                self._close_stream((identity, message.stream))
            case GetStatus():
                self._send_client(identity, Status(status_of(self)))
            case Scale():
                log.info("scale", extra={"workers": message.workers})
                self.roster.wanted = message.workers
                self._scaling.append(identity)
                self._muster()
            case Stop():
                self.stop()
            case _:
                raise ProtocolError(f"{type(message).__name__} from a client")

    def _served_by(self, stream: StreamId) -> Served:
        if stream not in self._streams:
            raise ProtocolError(f"stream {stream[1]} is not open")
        return self.served[self._streams[stream]]

    def _apply(self, served: Served, instructions: Iterable[Instruction]) -> None:
        for told in instructions:
            match told:
                case Lend():
                    self._lends.setdefault(told.stream, []).append((told.n, told.slot, served.rows(told.n)))
                case Fill():
                    self.scheduler.fill(served.number, served.number, told.slot, told.n, served.rows(told.n))
                case Fail():
                    round_ = self._rounds.get(told.stream, 0)
                    self._send_client(told.stream[0], BatchFailed(told.stream[1], round_, told.n, told.error))

    # -- datasets are opened by workers, and closed some time after their last stream ---------------------------

    def _open_stream(self, identity: bytes, message: OpenStream) -> None:
        stream = (identity, message.stream)
        try:
            if isinstance(message.dataset, str):
                raise DatasetError(
                    f"this daemon serves no dataset named {message.dataset!r}: it was started without a config"
                )
            if stream in self._streams or any(opening.stream == stream for opening in self._openings.values()):
                raise ProtocolError(f"stream {message.stream} is open already")
            self._door.drain(self._clients[identity])
            for table in tables_in(message.dataset):
                self._tables.fd(table)
        except LoaderError as error:
            self._send_client(identity, StreamFailed(message.stream, failed(error)))
            return
        number, self._next_dataset = self._next_dataset, self._next_dataset + 1
        self._openings[number] = Opening(stream, message.dataset, message.prefetch)
        self._open_waiting()

    def _open_waiting(self) -> None:
        """Have the least busy worker open each dataset that waits for one."""
        for number, opening in self._openings.items():
            load = self.scheduler.load()
            if opening.worker is not None or not load:
                continue
            opening.worker = min(load, key=lambda worker: (load[worker], worker))
            worker = self._workers[opening.worker]
            self._hand_tables(worker, tables_in(opening.declaration))
            worker.datasets.add(number)
            self._send_worker(opening.worker, OpenDataset(number, opening.declaration, {}))

    def _dataset_opened(self, worker: int, opened: DatasetOpened) -> None:
        opening = self._openings.pop(opened.dataset, None)
        known = next((served for served in self.served.values() if served.opened.key == opened.key), None)
        if opening is None or known is not None:  # the client left meanwhile; or somebody reads this key already
            self._workers[worker].datasets.discard(opened.dataset)
            self._send_worker(worker, CloseDataset(opened.dataset))
        if opening is None:
            return
        try:
            served = known or self._serve(opening, opened)
            client = self._clients[opening.stream[0]]
        except LoaderError as error:
            self._send_client(opening.stream[0], StreamFailed(opening.stream[1], failed(error)))
            return
        timer = self._closing.pop(served.number, None)
        if timer is not None:
            timer.cancel()
        self._streams[opening.stream] = served.number
        views = served.shelf.open(opening.stream)
        self._hand(client, ShareArena(served.number, served.nbytes), served.arena)
        self._send_client(opening.stream[0], served.stream_opened(opening.stream, views))
        log.info("stream opened", extra={"key": opened.key, "pid": client.pid, "slots": served.slots})

    def _serve(self, opening: Opening, opened: DatasetOpened) -> Served:
        """Make the arena of a key that nobody reads yet.

        Raises:
            NotEnoughMemory: If two slots do not fit.
        """
        layout = Layout.of(opened.spec, opened.batch_size)
        for number in list(self._closing):
            if self.memory_used + (opening.prefetch + 6) * layout.slot_nbytes > self.memory_limit:
                self._close_dataset(number)
        slots = choose_slots(
            layout.slot_nbytes,
            opening.prefetch,
            limit=self.memory_limit,
            used=self.memory_used,
            available=available_memory(),
        )
        arena = create_memory("loader-service arena", slots * layout.slot_nbytes)
        log.info("arena", extra={"key": opened.key, "slots": slots, "size": mebibytes(slots * layout.slot_nbytes)})
        served = Served(opened.dataset, opening.declaration, opened, layout, slots, arena)
        self.served[served.number] = served
        return served

    def _refuse(self, dataset: int, error: Failed) -> None:
        opening = self._openings.pop(dataset, None)
        if opening is not None:
            log.info("dataset refused: %s", error_of(error))
            self._send_client(opening.stream[0], StreamFailed(opening.stream[1], error))
        elif dataset in self.served:  # a later worker could not open what the first one could
            for stream in self.served[dataset].shelf.streams:
                self._send_client(stream[0], StreamFailed(stream[1], error))
                self._close_stream(stream)

    def _close_stream(self, stream: StreamId) -> None:
        dataset = self._streams.pop(stream, None)
        if dataset is None:
            return
        served = self.served[dataset]
        self._lends.pop(stream, None)
        self._rounds.pop(stream, None)
        self._apply(served, served.shelf.close(stream))
        if not served.shelf.streams:
            self._closing[dataset] = self._loop.call_later(GRACE, self._close_dataset, dataset)

    def _close_dataset(self, dataset: int) -> None:
        self._closing.pop(dataset).cancel()
        served = self.served.pop(dataset)
        self.scheduler.forget(dataset)
        os.close(served.arena)
        for worker in self._workers.values():
            if dataset in worker.datasets:
                worker.datasets.discard(dataset)
                worker.arenas.discard(dataset)
                self._send_worker(worker.number, CloseDataset(dataset))
        needed = {table for other in self.served.values() for table in other.tables}
        needed |= {table for opening in self._openings.values() for table in tables_in(opening.declaration)}
        self._tables.forget(needed)
        log.info("dataset closed", extra={"key": served.opened.key})
