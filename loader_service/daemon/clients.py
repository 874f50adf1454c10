"""The daemon's side of its clients: their streams, the datasets these read, and the slots that they are lent.

Who gets which slot is the shelf's rule (streams.py); here its instructions become messages, and datasets are opened
with their first stream (arenas.py has them from then on).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from loader_service.daemon.arenas import Arenas
from loader_service.daemon.datasets import Served, WaitingStream
from loader_service.daemon.door import Door, Peer
from loader_service.daemon.ledgers import Ledgers
from loader_service.daemon.router import Router, Sent
from loader_service.daemon.streams import Fail, Fill, Instruction, Lend, StreamId
from loader_service.daemon.workers import Workers, check_descriptors
from loader_service.pool.backlog import Job
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import DatasetError, LoaderError, ProtocolError, nearest
from loader_service.protocol.ledger import BadSample
from loader_service.protocol.messages import (
    MOST_PREFETCH,
    MOST_TOLD,
    BatchesReady,
    BatchFailed,
    CloseStream,
    DatasetOpened,
    Failed,
    GetStatus,
    OpenStream,
    RequestBatches,
    ResetStream,
    ReturnSlots,
    SamplesReplaced,
    Scale,
    ShareArena,
    Status,
    Stop,
    StreamFailed,
)
from loader_service.protocol.tables import TableStore, carried_in, tables_in

log = logging.getLogger(__name__)

MOST_OPEN = 1024  # streams of one client
MOST_REFUSED = 100  # messages of one client, before it is let go


class Clients:
    """Everybody who streams, asks or commands."""

    def __init__(
        self,
        router: Router,
        tables: TableStore,
        memory_limit: int,
        named: dict[str, dict[str, Any]],
        *,
        status: Callable[[], dict[str, Any]],
        stop: Callable[[], None],
        owner: int | None = None,
    ) -> None:
        """Begin with nobody; objects that travel as pickles are taken from the process `owner` alone."""
        self._named = named  # datasets of the config, in plain form
        self._owner = owner
        self._router, self._tables, self._status, self._stop = router, tables, status, stop
        self._loop = asyncio.get_running_loop()
        self._ledgers = Ledgers(grown=self._replace)
        self.arenas = Arenas(memory_limit, self._ledgers, closed=self._forget_tables_soon)
        self._workers: Workers
        self._door: Door
        self._clients: dict[bytes, Peer] = {}
        self._waiting: dict[int, WaitingStream] = {}  # dataset number -> the stream that waits for it
        self._next_dataset = 0
        self._streams: dict[StreamId, int] = {}  # -> dataset number
        self._rounds: dict[StreamId, int] = {}  # of their last ResetStream
        self._lends: dict[StreamId, list[tuple[int, int, int]]] = {}  # not told yet
        self._scaling: list[bytes] = []  # clients that wait for the pool to settle

    def start(self, workers: Workers, door: Door) -> None:
        """Have rows made by `workers`; clients come in by `door`."""
        self._workers, self._door = workers, door
        self.arenas.start(workers)

    def say_goodbye(self, error: LoaderError) -> None:
        """Tell every client why its streams end."""
        told = failed(error)
        for identity in list(self._clients):
            self._send(identity, told)

    def close(self) -> None:
        """Let go of all memory."""
        self.arenas.close()
        self._ledgers.close()

    # -- what status tells -----------------------------------------------------------------------------------

    def pid(self, identity: bytes) -> int | None:
        """Return the pid of a client."""
        peer = self._clients.get(identity)
        return peer.pid if peer else None

    # -- peers -----------------------------------------------------------------------------------------------

    def welcome(self, peer: Peer) -> bool:
        """Let a client in, unless another one has its identity."""
        if peer.identity in self._clients:
            return False
        self._clients[peer.identity] = peer
        return True

    def gone(self, peer: Peer) -> None:
        """A client is dead, or has hung up: what it was lent comes back."""
        del self._clients[peer.identity]
        for dataset in [number for number, opening in self._waiting.items() if opening.stream[0] == peer.identity]:
            del self._waiting[dataset]
            self._workers.forget(dataset)
        for stream in [stream for stream in self._streams if stream[0] == peer.identity]:
            self._close_stream(stream)
        self._forget_tables_soon()

    # -- turns -----------------------------------------------------------------------------------------------

    def take(self) -> int:
        """Take in what clients have sent. Return how many messages that were."""
        count = 0
        for identity, message in self._router.take(self._clients):
            count += 1
            if message is None:
                continue  # it has hung up, or was never let in
            client = self._clients[identity]
            try:
                if isinstance(message, ProtocolError):
                    raise message
                self._receive(identity, message)
            except LoaderError as error:
                self._refuse(client, error)
        return count

    def _refuse(self, client: Peer, error: LoaderError) -> None:
        """Tell a client what was wrong with its message; one that is wrong all the time is let go."""
        level = logging.DEBUG if client.refused else logging.WARNING  # once: it may go on like that
        log.log(level, "a client's message was refused: %s", error, extra={"pid": client.pid})
        self._send(client.identity, failed(error))
        client.refused += 1
        if client.refused >= MOST_REFUSED:
            log.warning("a client is let go: %d of its messages were refused", MOST_REFUSED, extra={"pid": client.pid})
            self._door.dismiss(client, "it talks nonsense")

    def send_lends(self) -> int:
        """Tell streams what was lent to them, as soon as it is of use. Return how many messages that were."""
        told = [stream for stream in self._lends if self._served_by(stream).shelf.gets_on(stream)]
        for stream in told:
            self._send(stream[0], BatchesReady(stream[1], self._rounds.get(stream, 0), self._lends.pop(stream)))
        return len(told)

    def _receive(self, identity: bytes, message: Any) -> None:
        match message:
            case RequestBatches():
                stream = (identity, message.stream)
                shelf = self._served_by(stream).shelf
                if message.returned:
                    self._obey(stream, shelf.returned(stream, message.returned))
                if not message.first <= message.last < message.first + MOST_PREFETCH:
                    raise ProtocolError(f"a request for batches {message.first} to {message.last}")
                self._obey(stream, shelf.request(stream, range(message.first, message.last + 1)))
            case ReturnSlots():
                stream = (identity, message.stream)
                if stream in self._streams:  # else: it ended while the message was under way
                    self._obey(stream, self._served_by(stream).shelf.returned(stream, message.slots))
            case ResetStream():
                stream = (identity, message.stream)
                shelf = self._served_by(stream).shelf
                told = shelf.reset(stream, message.keeps)
                self._lends.pop(stream, None)
                self._rounds[stream] = message.round
                self._obey(stream, told)
            case OpenStream():
                self._open_stream(identity, message)
            case CloseStream():
                self._close_stream((identity, message.stream))
            case GetStatus():
                self._send(identity, Status(self._status()))
            case Scale():
                check_descriptors(message.workers)
                log.info("scale", extra={"workers": message.workers, "pid": self.pid(identity)})
                self._scaling.append(identity)
                self._workers.scale(message.workers)
            case Stop():
                self._stop()
            case _:
                raise ProtocolError(f"{type(message).__name__} from a client")

    def _send(self, identity: bytes, message: Any) -> None:
        sent = self._router.send(identity, message)
        if sent is not Sent.WELL and (peer := self._clients.get(identity)) is not None:
            if sent is Sent.NOT_READ:
                log.warning("a client does not read, and is let go", extra={"pid": peer.pid})
            self._loop.call_soon(self._door.dismiss, peer, "it does not read")

    def _served_by(self, stream: StreamId) -> Served:
        if stream not in self._streams:
            raise ProtocolError(f"stream {stream[1]} is not open")
        return self.arenas[self._streams[stream]]

    def _obey(self, stream: StreamId, instructions: Iterable[Instruction]) -> None:
        self._obey_shelf(self.arenas[self._streams[stream]], instructions)

    def _obey_shelf(self, served: Served, instructions: Iterable[Instruction]) -> None:
        for told in instructions:
            match told:
                case Lend():
                    self._lends.setdefault(told.stream, []).append((told.n, told.slot, served.rows(told.n)))
                case Fill():
                    self._workers.fill(served.number, told.slot, told.n)
                case Fail():
                    identity, number = told.stream
                    self._send(identity, BatchFailed(number, self._rounds.get(told.stream, 0), told.n, told.error))

    # -- what the workers have done ----------------------------------------------------------------------------

    def jobs_ended(self, jobs: Iterable[Job]) -> None:
        """All rows of these slots are filled, or cannot be."""
        for job in jobs:
            served = self.arenas.get(job.dataset)
            if served is None:
                continue
            if job.error is None:
                self._obey_shelf(served, served.shelf.filled(job.slot))
            else:
                log.info("batch %d failed: %s", job.n, job.error.message, extra={"key": served.info.key})
                self._obey_shelf(served, served.shelf.failed(job.slot, job.error))

    def samples_known(self, key: str, samples: list[BadSample]) -> None:
        """These samples of a key stand in its ledger's file."""
        self._ledgers.enter(key, samples)

    def sample_failed(self, dataset: int, sample: BadSample, error: Failed) -> Failed | None:
        """A sample cannot be made. Return the error that its batch fails with; None if it is replaced."""
        served = self.arenas.get(dataset)
        return error if served is None else self._ledgers.judge(served.info, sample, error)

    def _replace(self, key: str, samples: list[BadSample]) -> None:
        """Tell all who make or read batches of this key of samples that are replaced from here on."""
        for served in self.arenas:
            if served.info.key == key:
                self._workers.replace(served.number, [sample.id for sample in samples])
                for stream in served.shelf.streams:
                    self._tell_replaced(stream, samples)

    def _tell_replaced(self, stream: StreamId, samples: list[BadSample]) -> None:
        for start in range(0, len(samples), MOST_TOLD):
            self._send(stream[0], SamplesReplaced(stream[1], samples[start : start + MOST_TOLD]))

    def job_late(self, job: Job) -> bool:
        """Have a batch made in another slot as well, if somebody wants it and there is one; what is done first is lent.

        Return whether it is.
        """
        served = self.arenas.get(job.dataset)
        fill = served.shelf.second(job.slot) if served is not None else None
        if fill is None or served is None:
            return False
        log.info("batch %d is late, and made by others as well", fill.n, extra={"key": served.info.key})
        self._workers.fill_again(job, fill.slot)
        return True

    def dataset_opened(self, opened: DatasetOpened) -> None:
        """Let the stream that waits for this dataset begin."""
        opening = self._waiting.pop(opened.dataset)
        self._forget_tables_soon()
        try:
            served, prefetch = self.arenas.serve(opening, opened)
        except LoaderError as error:
            self._send(opening.stream[0], StreamFailed(opening.stream[1], failed(error)))
            return
        self._streams[opening.stream] = served.number
        share = served.shelf.offer(prefetch)
        served.shelf.open(opening.stream, share)
        client = self._clients[opening.stream[0]]
        self._door.hand(client, ShareArena(served.number, served.mapped_nbytes), served.arena)
        self._tell_replaced(opening.stream, list(served.ledger))
        self._send(client.identity, served.stream_opened(opening.stream, share))
        log.info("stream opened", extra={"key": opened.info.key, "pid": client.pid, "slots": served.slots})

    def dataset_refused(self, dataset: int, error: Failed) -> None:
        """Tell who waits for it; or who reads it, if a later worker could not open what the first one could."""
        opening = self._waiting.pop(dataset, None)
        self._forget_tables_soon()
        if opening is not None:
            log.info("dataset refused: %s", error.message)
            self._send(opening.stream[0], StreamFailed(opening.stream[1], error))
        elif (served := self.arenas.get(dataset)) is not None:
            for stream in served.shelf.streams:
                self._send(stream[0], StreamFailed(stream[1], error))
                self._close_stream(stream)

    def pool_settled(self) -> None:
        """Answer those who asked for another number of workers."""
        for identity in self._scaling:
            self._send(identity, Status(self._status()))
        self._scaling.clear()

    # -- opening and closing streams ---------------------------------------------------------------------------

    def _open_stream(self, identity: bytes, message: OpenStream) -> None:
        stream = (identity, message.stream)
        client = self._clients[identity]
        try:
            declaration = self._named_dataset(message.dataset) if isinstance(message.dataset, str) else message.dataset
            waiting = [opening.stream for opening in self._waiting.values()]
            if stream in self._streams or stream in waiting:
                raise ProtocolError(f"stream {message.stream} is open already")
            if sum(other[0] == identity for other in (*self._streams, *waiting)) >= MOST_OPEN:
                raise ProtocolError(f"{MOST_OPEN} streams are open over one connection: close some")
            for why in carried_in(declaration):
                if client.pid != self._owner:
                    raise DatasetError(why)
            self._door.drain(client)
            if identity not in self._clients:
                return  # it has died since it asked
            tables = set(tables_in(declaration))
            for table in tables:
                self._tables.fd(table)  # raises if it was not handed over
            number = self._next_dataset
            self._workers.open(number, declaration, message.shard, message.bundles)
        except LoaderError as error:
            self._send(identity, StreamFailed(message.stream, failed(error)))
            return
        self._next_dataset += 1
        self._waiting[number] = WaitingStream(stream, declaration, message.prefetch, message.shard, message.bundles)
        client.tables -= tables

    def _named_dataset(self, name: str) -> dict[str, Any]:
        if not self._named:
            raise DatasetError(f"this daemon serves no dataset named {name!r}: it was started without a config")
        if name not in self._named:
            raise DatasetError(f"this daemon serves no dataset named {name!r}: {nearest(name, self._named)}")
        return self._named[name]

    def _close_stream(self, stream: StreamId) -> None:
        dataset = self._streams.pop(stream, None)
        if dataset is None:
            return
        served = self.arenas[dataset]
        self._lends.pop(stream, None)
        self._rounds.pop(stream, None)
        self._obey_shelf(served, served.shelf.close(stream))
        self.arenas.close_if_unread(served)

    def _forget_tables_soon(self) -> None:
        """Let go of the tables that nothing needs, once this turn is over: now, something may be half opened."""
        self._loop.call_soon(self._forget_tables)

    def _forget_tables(self) -> None:
        needed = {table for served in self.arenas for table in served.tables}
        needed |= {table for opening in self._waiting.values() for table in tables_in(opening.declaration)}
        self._tables.forget(needed | self._door.tables)
