"""The child's main loop: tasks in, rows written, "rows filled" out.

A worker knows datasets and arenas by the daemon's numbers. It decides nothing: which rows, into which slot, comes
with the task. Libraries run single-threaded in it, it sees no GPU, and it dies with the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import zmq

from loader_service import __version__
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.plan import Plan
from loader_service.dataset.user_code import explained
from loader_service.dataset.whole import AnyPlan, WholePlan, open_plan
from loader_service.machine import available_memory
from loader_service.pool.engine import STACK_SIGNAL
from loader_service.protocol.address import Address
from loader_service.protocol.arena import SlotWriter, map_memory, memory_of, reserve_memory, slot_arrays
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import DatasetError, NotEnoughMemory, ProtocolError
from loader_service.protocol.layout import Layout
from loader_service.protocol.ledger import sample_of
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import Link
from loader_service.protocol.messages import (
    MOST_TOLD,
    CloseDataset,
    DatasetOpened,
    DatasetRefused,
    FillRows,
    Leave,
    OpenDataset,
    ReplaceSamples,
    RowsBegun,
    RowsFailed,
    RowsFilled,
    SamplesKnown,
    ShareArena,
    ShareTable,
    WorkerJoined,
)
from loader_service.protocol.shard import WHOLE, Shard, layout_of
from loader_service.protocol.tables import TableStore, tables_in

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # prctl(2)


def die_with_parent() -> None:
    """Have this process killed when its parent ends: one that is stopped, or deep in C, reads no end of file."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Have `top` and the like show this process under a name of at most 15 characters, not under its parent's."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


def run_worker(address: Address, template: int) -> None:
    """Work until the daemon says `Leave`, or is gone."""
    die_with_parent()
    if os.getppid() != template:
        return
    faulthandler.register(STACK_SIGNAL)
    cv2.setNumThreads(1)
    link = Link(address, "worker", __version__)
    with contextlib.suppress(PeerGone):
        Worker(link).run()


@dataclass(frozen=True)
class _Room:
    """One slot, as its writers see it."""

    rows: dict[str, np.ndarray]  # what rows are written to
    write: SlotWriter  # hands out room for what is made of them

    @classmethod
    def of(cls, arena: _Arena, layout: Layout, slot: int) -> _Room:
        return cls(slot_arrays(arena.memory, layout, slot), SlotWriter(arena.memory, layout, slot, arena.reserve))


class _Arena:
    """An arena as its writers see it."""

    def __init__(self, fd: int, nbytes: int) -> None:
        """Map it; the descriptor is ours from here on."""
        self._fd = fd
        self.memory = map_memory(fd, nbytes, writable=True)

    def reserve(self, start: int, nbytes: int) -> None:
        """See to it that there is memory for a batch that is larger than its slot."""
        available = available_memory()
        if nbytes > available:
            raise NotEnoughMemory(
                f"an array of {nbytes:,} bytes is larger than its slot, and the machine (or the container) has "
                f"{max(0, available):,} bytes left. Make batches smaller, or give the container more memory."
            )
        reserve_memory(self._fd, nbytes, start)

    def close(self) -> None:
        """Let go of it; arrays over it keep the mapping."""
        os.close(self._fd)


@dataclass
class _Open:
    """A dataset as this worker has it."""

    plan: AnyPlan
    shard: Shard
    layout: Layout
    tables: set[str]  # of which it holds a copy each
    slots: dict[int, _Room] = field(default_factory=dict)  # arrays over each slot, made when needed


class Worker:
    """What one process of the pool knows: open datasets, mapped arenas, tables."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tables = TableStore()
        self._arenas: dict[int, _Arena] = {}
        self._datasets: dict[int, _Open] = {}

    def run(self) -> None:
        """Do as told, in the order of the messages."""
        poller, lifeline = zmq.Poller(), self._link.lifeline.fileno()
        poller.register(self._link.socket, zmq.POLLIN)
        poller.register(lifeline, zmq.POLLIN)
        self._link.send(WorkerJoined())
        while True:
            message = self._link.recv()
            if message is None:
                if any(ready == lifeline for ready, _ in poller.poll()):
                    self._take_shared()
            elif isinstance(message, Leave):
                return
            else:
                self._do(message)

    def _do(self, message: Any) -> None:
        match message:
            case FillRows():
                self._fill(message)
            case OpenDataset():
                self._open(message)
            case ReplaceSamples():
                if message.dataset in self._datasets:
                    self._datasets[message.dataset].plan.replace(message.samples)
            case CloseDataset():
                closed = self._datasets.pop(message.dataset, None)
                if message.dataset in self._arenas:
                    self._arenas.pop(message.dataset).close()
                for table in closed.tables if closed else ():
                    self._tables.drop(table)
            case _:
                raise ProtocolError(f"a worker was sent {message!r}")

    def _take_shared(self) -> None:
        """Take what the daemon handed over; raises PeerGone when it is gone."""
        while (packet := self._link.recv_shared()) is not None:
            message, fd = packet
            match message:
                case ShareTable():
                    self._tables.adopt(message.table, fd)
                case ShareArena():
                    self._arenas[message.arena] = _Arena(fd, message.nbytes)
                case _:
                    raise ProtocolError(f"a worker was handed {message!r}")

    def _open(self, message: OpenDataset) -> None:
        """Open a dataset: with an index, quietly; without, make the index and tell what the dataset is."""
        self._take_shared()
        tables = {*tables_in(message.declaration), *(ref.table for ref in message.index.values())}
        try:
            index = {name: self._tables.array(ref) for name, ref in message.index.items()}
            declaration = Declaration.from_plain(message.declaration)
            replaced = message.replaced if index else None
            plan = open_plan(declaration, self._tables.array, index or None, replaced, message.blame)
            if message.key not in ("", plan.key):
                raise DatasetError(
                    "the code that the dataset names was changed while it was being read: a new worker would make "
                    f"other batches (key {message.key!r}, now {plan.key!r}). Open a new stream."
                )
            if message.bundles and message.shard == WHOLE and isinstance(plan, Plan):
                plan.bundle()
            layout = layout_of(plan.info, message.shard)
        except Exception as error:
            for table in tables:
                self._tables.drop(table)
            self._link.send(DatasetRefused(message.dataset, failed(explained(error))))
            return
        self._datasets[message.dataset] = _Open(plan, message.shard, layout, tables)
        if not message.index:
            self._tell(message.dataset, plan, tables)

    def _tell(self, dataset: int, plan: AnyPlan, tables: set[str]) -> None:
        """Say what a dataset is; its index is a table from now on, as if it had been handed over."""
        for name, ref in plan.index_refs.items():
            if ref.table in tables:
                continue
            tables.add(ref.table)
            if ref.table in self._tables:
                self._tables.adopt(ref.table, os.dup(self._tables.fd(ref.table)))
            else:
                with memory_of(plan.index[name], name) as fd:
                    self._tables.adopt(ref.table, os.dup(fd))
            self._link.lifeline.send(ShareTable(ref.table), self._tables.fd(ref.table))
        known = list(plan.ledger)
        for start in range(0, len(known), MOST_TOLD):
            self._link.send(SamplesKnown(plan.key, known[start : start + MOST_TOLD]))
        proof = plan.proof() if isinstance(plan, WholePlan) else ""
        self._link.send(DatasetOpened(dataset, plan.info, plan.index_refs, plan.doubts(), proof))

    def _fill(self, message: FillRows) -> None:
        dataset = self._datasets.get(message.dataset)
        if message.arena not in self._arenas:
            self._take_shared()
        if message.announce:
            self._link.lifeline.send(RowsBegun(message.task))
        began = time.perf_counter()
        number = 0
        try:
            if dataset is None:
                raise ProtocolError(f"dataset {message.dataset} was named before it was opened")
            for number, (slot, n, start, stop) in enumerate(message.pieces):  # noqa: B007 - read where it failed
                room = dataset.slots.get(slot)
                if room is None:
                    room = dataset.slots[slot] = _Room.of(self._arenas[message.arena], dataset.layout, slot)
                rows = dataset.shard.of(dataset.plan.info.rows(n))
                if message.blame:
                    raise dataset.plan.error_of(n, rows, start, message.blame)
                if isinstance(dataset.plan, WholePlan):
                    dataset.plan.put(n, room.write)
                    continue
                if stop <= len(rows):
                    piece = {name: array[start:stop] for name, array in room.rows.items()}
                    dataset.plan.fill(n, rows.start + start, rows.start + stop, piece)
                    continue
                finish = dataset.plan.make if start == 0 else dataset.plan.finish
                finish(n, rows, {name: array[: len(rows)] for name, array in room.rows.items()}, room.write)
        except Exception as error:
            self._link.send(RowsFailed(message.task, number, failed(explained(error)), sample_of(error)))
        else:
            self._link.send(RowsFilled(message.task, time.perf_counter() - began))
