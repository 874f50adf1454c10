"""The client's sockets, shared by the streams of one connection and by whatever threads read them.

There is no thread in the way of a batch: the thread that waits for one takes the messages off the socket, for all
streams. If several wait, one of them polls and the others are told. A second, sleepy thread gives slots back when
their arrays die while nobody is waiting for anything.

Every socket call, and every change to what a stream knows, is made under one lock, `turn`. The leader polls
descriptors only, outside the lock.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from loader_service import __version__
from loader_service.protocol.address import Address
from loader_service.protocol.arena import map_memory, memory_of
from loader_service.protocol.codec import error_of
from loader_service.protocol.errors import DaemonLost, LoaderError, ProtocolError, StreamClosed
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import Link
from loader_service.protocol.messages import (
    BatchesReady,
    BatchFailed,
    Failed,
    ShareArena,
    ShareTable,
    StreamFailed,
    StreamOpened,
)
from loader_service.protocol.tables import TableRef

SAFETY_POLL = 0.1  # seconds: ZeroMQ's descriptor is edge-triggered, and a wake-up may get lost
SLEEPY = 0.02  # seconds from an array's death to its slot's return, while nobody waits for a batch
PATIENCE = 600.0  # seconds that one batch may take


class Receiver(Protocol):
    """A stream, as its channel sees it. All of these are called under the channel's lock."""

    @property
    def arena(self) -> int | None:
        """The arena that its slots lie in, once it is open."""

    def receive(self, message: Any) -> None:
        """Take a message in."""

    def flush(self) -> None:
        """Send what is to be sent: slots to return, numbers to ask for."""


class _Bell:
    """Wakes one thread, from anywhere: a finalizer may run inside any lock, so this takes none."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._rung = False

    def ring(self) -> None:
        """Wake the thread, now or when it next waits."""
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._fd, 1)

    def wait(self) -> None:
        """Sleep until somebody rings."""
        os.eventfd_read(self._fd)

    def clear(self) -> None:
        """From here on, the next ring wakes the thread once more."""
        self._rung = False

    def __del__(self) -> None:
        os.close(self._fd)


class Channel:
    """One connection to a daemon."""

    def __init__(self, address: Address) -> None:
        """Connect; raises as `Link` does."""
        self.address = address
        self._link = Link(address, "client", __version__)
        self._pid = os.getpid()
        self.turn = threading.Condition()  # over an RLock; who holds it may change what streams know
        self._leading = False
        self._receivers: dict[int, Receiver] = {}
        self._numbers = 0
        self._shared: set[str] = set()
        self.arenas: dict[int, np.ndarray] = {}
        self._lost: LoaderError | None = None
        self._closing = self._hung_up = False
        self._poll = select.poll()
        self._poll.register(self._link.zmq_fd, select.POLLIN)
        self._poll.register(self._link.lifeline.fileno(), select.POLLIN)
        self._bell = _Bell()
        self._sleepy = threading.Thread(target=self._give_back, name="loader-client", daemon=True)
        self._sleepy.start()

    # -- streams ---------------------------------------------------------------------------------------------

    def register(self, receiver: Receiver) -> int:
        """Return the number of a new stream."""
        with self.turn:
            number, self._numbers = self._numbers, self._numbers + 1
            self._receivers[number] = receiver
            return number

    def unregister(self, number: int) -> None:
        """Forget a stream; and its memory, if it was the last one over it."""
        with self.turn:
            self._receivers.pop(number, None)
            used = {receiver.arena for receiver in self._receivers.values()}
            for arena in self.arenas.keys() - used:
                del self.arenas[arena]

    def share_table(self, ref: TableRef, array: np.ndarray) -> None:
        """Hand an array over, once."""
        with self.turn:
            self._check()
            if ref.table not in self._shared:
                with memory_of(array, "loader-service table") as fd:
                    self._link.lifeline.send(ShareTable(ref.table), fd)
                self._shared.add(ref.table)

    def send(self, message: Any) -> None:
        """Send a message."""
        with self.turn:  # an RLock: a receiver that is flushed holds it already
            self._check()
            self._link.send(message)

    @property
    def is_lost(self) -> bool:
        """Whether nobody is at the other end."""
        return self._lost is not None

    def wait(self, done: Callable[[], bool], what: str) -> float:
        """Take messages in until `done()`. Return the seconds that it took. `turn` must be held, once.

        Raises:
            DaemonStopped, DaemonLost: If the daemon is gone.
            DaemonLost: If it is there, and nothing comes for PATIENCE seconds.
        """
        began = time.perf_counter()
        self._exchange()
        while not done():
            self._check()
            if time.perf_counter() - began > PATIENCE:
                raise DaemonLost(
                    f"{what} did not come within {PATIENCE:.0f} s, and the daemon at {self.address} is alive: "
                    "`loader-service status` tells what its workers do."
                )
            if self._leading:
                self.turn.wait(SAFETY_POLL)
            else:
                self._lead()
        return time.perf_counter() - began

    def nudge(self) -> None:
        """A slot is to be returned: see to it soon. Safe in a finalizer."""
        self._bell.ring()

    def close(self) -> None:
        """Hang up: now, or when the last array over a slot is gone."""
        self._closing = True
        self._tidy()

    def abandon(self) -> None:
        """Close, some time soon. Safe in a finalizer."""
        self._closing = True
        self.nudge()

    # -- within ----------------------------------------------------------------------------------------------

    def _lead(self) -> None:
        """Wait for messages, without the lock; then take them in, with it."""
        self._leading = True
        self.turn.release()
        try:
            self._poll.poll(SAFETY_POLL * 1000)
        finally:
            self.turn.acquire()
            self._leading = False
            self.turn.notify_all()
        self._exchange()

    def _exchange(self) -> None:
        """Send what is to be sent, take in what has come: until neither is left."""
        if self._lost is not None:
            return
        for receiver in list(self._receivers.values()):
            receiver.flush()
        while (message := self._link.recv()) is not None:
            self._dispatch(message)
        try:
            self._take_shared()
        except PeerGone:
            self._mourn()

    def _dispatch(self, message: Any) -> None:
        match message:
            case BatchesReady() | BatchFailed() | StreamOpened() | StreamFailed():
                if isinstance(message, StreamOpened):
                    self._take_shared()
                receiver = self._receivers.get(message.stream)
                if receiver is not None:
                    receiver.receive(message)
            case Failed():
                raise error_of(message)
            case _:
                raise ProtocolError(f"the daemon sent {message!r}")

    def _take_shared(self) -> None:
        while (packet := self._link.recv_shared()) is not None:
            message, fd = packet
            try:
                if not isinstance(message, ShareArena):
                    raise ProtocolError(f"the daemon handed over {message!r}")
                if message.arena not in self.arenas:
                    self.arenas[message.arena] = map_memory(fd, message.nbytes, writable=False)
            finally:
                os.close(fd)

    def _mourn(self) -> None:
        """The daemon is gone: hear its last words, and let everybody know."""
        while (message := self._link.recv()) is not None:
            self._dispatch(message)
        self._lost = DaemonLost(f"the daemon at {self.address} has died")
        self.turn.notify_all()

    def refuse_fork(self) -> None:
        """Raise in a forked child: neither ZeroMQ's sockets nor our lock survive a fork."""
        if os.getpid() != self._pid:
            raise StreamClosed(
                f"this stream was opened in process {self._pid}, and is used in its fork {os.getpid()}: "
                "sockets do not survive a fork. Connect again in the child."
            )

    def _check(self) -> None:
        self.refuse_fork()
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))

    def _give_back(self) -> None:
        """The sleepy thread: return slots while nobody waits for a batch."""
        while not self._hung_up:
            self._bell.wait()
            time.sleep(SLEEPY)  # let a burst of them go in one message; a thread that waits may be first anyway
            self._bell.clear()
            self._tidy()

    def _tidy(self) -> None:
        """Return what is to be returned; hang up, if that is wanted and nothing is left."""
        if os.getpid() != self._pid:
            return  # a forked child that ends: the connection is its parent's
        with self.turn:
            if self._hung_up:
                return
            for receiver in list(self._receivers.values()):
                receiver.flush()
            if self._closing and not self._receivers:
                self._hung_up = True
                self._link.close()
                self._lost = self._lost or StreamClosed("the connection was closed")
                self._bell.ring()
