"""The client's sockets, shared by the streams of one connection and by whatever threads read them.

There is no thread in the way of a batch: the thread that waits for one takes the messages off the socket, for all
streams. If several wait, one of them polls and the others are told. A second, sleepy thread gives slots back when
their arrays die while nobody is waiting for anything.

A daemon that died is waited for by the thread that wants a batch and has none; a private one is started again. Then
every stream opens anew. A daemon that was stopped says so before it ends, and nobody waits for it.

Every socket call, and every change to what a stream knows, is made under one lock, `turn`. The leader polls
descriptors only, outside the lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from loader_service import __version__
from loader_service.protocol.address import Address
from loader_service.protocol.arena import map_memory, memory_of
from loader_service.protocol.codec import error_of
from loader_service.protocol.errors import (
    DaemonLost,
    DaemonStopped,
    DatasetError,
    LoaderError,
    NoDaemon,
    ProtocolError,
    StreamClosed,
)
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import Link
from loader_service.protocol.messages import (
    BatchesReady,
    BatchFailed,
    CloseStream,
    Failed,
    SamplesReplaced,
    ShareArena,
    ShareTable,
    StreamFailed,
    StreamOpened,
)
from loader_service.protocol.tables import TableRef

T = TypeVar("T")
log = logging.getLogger("loader_client")

SAFETY_POLL = 0.1  # seconds: ZeroMQ's descriptor is edge-triggered, and a wake-up may get lost
SLEEPY = 0.1  # seconds from an array's death to its slot's return, while nobody waits for a batch
PATIENCE = 1800.0  # seconds that one batch may take: some deadlines of the tasks that make it
RETRY = 0.05  # seconds between attempts at reaching a daemon that died


_pid = os.getpid()  # kept: to ask the kernel thrice for each batch takes longer than to hand it out


def _know_fork() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_know_fork)


class Receiver(Protocol):
    """A stream, as its channel sees it. All of these are called under the channel's lock."""

    @property
    def arena(self) -> int | None:
        """The arena that its slots lie in, while it is open."""

    @property
    def tables(self) -> Mapping[str, np.ndarray]:
        """The arrays that its dataset names, by hash."""

    def open(self) -> None:
        """Say to a daemon that does not know it what it reads."""

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
        os.read(self._fd, 8)  # not eventfd_read, which a signal that this thread happens to take ends with an error

    def clear(self) -> None:
        """From here on, the next ring wakes the thread once more."""
        self._rung = False

    def __del__(self) -> None:
        os.close(self._fd)


class Channel:
    """One connection to a daemon, or to one daemon after another at the same address."""

    def __init__(self, address: Address, *, reconnect: float, restart: Callable[[], None] | None = None) -> None:
        """Connect; raises as `Link` does.

        Args:
            reconnect: Seconds that a daemon that died is waited for.
            restart: Starts it again, where that is ours to do.
        """
        self.address = address
        self._reconnect, self._restart = reconnect, restart
        self._pid = _pid
        self.turn = threading.RLock()  # who holds it may change what streams know
        self._news = threading.Condition(self.turn)
        self._leading, self._followers = False, 0  # whether a thread polls, and how many wait for it to tell them
        self._receivers: dict[int, Receiver] = {}
        self._numbers = 0
        self._to_open: list[int] = []  # streams that the daemon does not know yet
        self._shared: set[str] = set()  # tables that the daemon has from us
        self.arenas: dict[int, np.ndarray] = {}
        self._lost: DaemonLost | None = None  # nobody is at the other end, at present
        self._lost_since: float | None = None  # seconds; until a batch comes again
        self._ended: LoaderError | None = None  # nobody will be, ever
        self._last_words = ""
        self._closing = self._hung_up = False
        self._then: Callable[[], None] | None = None  # when it has hung up
        self._use(Link(address, "client", __version__))
        self._bell = _Bell()
        self._sleepy = threading.Thread(target=self._give_back, name="loader-client", daemon=True)
        self._sleepy.start()

    # -- streams ---------------------------------------------------------------------------------------------

    def register(self, receiver: Receiver) -> int:
        """Return the number of a new stream, which is opened as soon as there is a daemon."""
        number, self._numbers = self._numbers, self._numbers + 1
        self._receivers[number] = receiver
        self._to_open.append(number)
        return number

    def unregister(self, number: int) -> None:
        """Forget a stream; and its memory, if it was the last one over it."""
        del self._receivers[number]
        living = self._receivers.values()
        for arena in self.arenas.keys() - {receiver.arena for receiver in living}:
            del self.arenas[arena]
        # The daemon forgets them some time after their last stream: a later one hands them over again.
        self._shared &= {table for receiver in living for table in receiver.tables}

    def share_table(self, ref: TableRef, array: np.ndarray) -> None:
        """Hand an array over, once to each daemon.

        Raises:
            DatasetError: If its content is no longer what the dataset says.
        """
        if ref.table in self._shared or self.is_lost:
            return
        if TableRef.of(array) != ref:
            raise DatasetError(
                f"an array of shape {array.shape} was changed after the dataset was made of it: give from_arrays a copy"
            )
        with memory_of(array, "loader-service table") as fd:
            try:
                self._link.lifeline.send(ShareTable(ref.table), fd)
            except PeerGone:
                self._mourn()
        self._shared.add(ref.table)

    def send(self, message: Any) -> None:
        """Send a message; to nobody, if nobody is there."""
        if not self.is_lost:
            self._link.send(message)

    @property
    def is_lost(self) -> bool:
        """Whether nobody is at the other end."""
        return self._lost is not None or self._ended is not None

    def wait(self, done: Callable[[], bool], what: str) -> float:
        """Take messages in until `done()`. Return the seconds that it took. `turn` must be held, once.

        Raises:
            DaemonStopped: If the daemon was stopped.
            DaemonLost: If it died and did not come back in time; or is there, and nothing comes for PATIENCE seconds.
        """
        began = time.perf_counter()
        self._exchange()
        self._check()
        while not done():
            if time.perf_counter() - began > PATIENCE:
                raise DaemonLost(
                    f"{what} did not come within {PATIENCE:.0f} s, and the daemon at {self.address} is alive: "
                    "`loader-service status` tells what its workers do."
                )
            if self._leading:
                self._follow()
            elif self._lost is not None:
                self._come_back()
            else:
                self._poll_once()
            self._take_in()
            if not done():
                self._exchange()  # a stream that was opened asks for its first batches
            self._check()
        return time.perf_counter() - began

    def nudge(self) -> None:
        """A slot is to be returned: see to it soon. Safe in a finalizer."""
        self._bell.ring()

    def close(self) -> None:
        """Hang up: now, or when the last array over a slot is gone."""
        self._closing = True
        self._tidy()

    def abandon(self, then: Callable[[], None]) -> None:
        """Close when the last stream is gone, some time soon; do something then. Safe in a finalizer."""
        self._then = then
        self._closing = True
        self.nudge()

    # -- within ----------------------------------------------------------------------------------------------

    def _lead(self, wait: Callable[[], T]) -> T:
        """Let go of the lock while `wait` runs, in the one thread that waits for the daemon."""
        self._leading = True
        self.turn.release()
        try:
            return wait()
        finally:
            self.turn.acquire()
            self._leading = False
            if self._followers:
                self._news.notify_all()

    def _follow(self) -> None:
        """Wait until the thread that polls has news, without the lock."""
        self._followers += 1
        try:
            self._news.wait(SAFETY_POLL)
        finally:
            self._followers -= 1

    def _use(self, link: Link) -> None:
        self._link = link
        self._is_handed = False  # something has come over the lifeline, or its end
        self._poll = select.poll()
        self._poll.register(link.zmq_fd, select.POLLIN)
        self._lifeline_fd = link.lifeline.fileno()
        self._poll.register(self._lifeline_fd, select.POLLIN)
        self._wait_for_any = partial(self._poll.poll, SAFETY_POLL * 1000)

    def _poll_once(self) -> None:
        """Wait for messages, without the lock."""
        for fd, _ in self._lead(self._wait_for_any):
            if fd == self._lifeline_fd:
                self._is_handed = True

    def _exchange(self) -> None:
        """Send what is to be sent, take in what has come: until neither is left."""
        if self.is_lost:
            return
        try:
            while self._to_open and not self.is_lost:
                self._open_next()
            for receiver in list(self._receivers.values()):
                receiver.flush()
        except PeerGone:
            self._mourn()
        self._take_in()

    def _take_in(self) -> None:
        """Take in what has come, until nothing is left."""
        if self.is_lost:
            return
        try:
            while (message := self._link.recv()) is not None:
                self._dispatch(message)
            if self._is_handed:
                self._is_handed = False
                self._take_shared()
        except PeerGone:
            self._mourn()
        if self._ended is not None:
            self._link.close(linger=0)

    def _dispatch(self, message: Any) -> None:
        match message:
            case BatchesReady() | BatchFailed() | SamplesReplaced() | StreamOpened() | StreamFailed():
                if isinstance(message, StreamOpened):
                    self._take_shared()
                elif isinstance(message, BatchesReady):
                    self._lost_since = None
                receiver = self._receivers.get(message.stream)
                if receiver is not None:
                    receiver.receive(message)
                elif isinstance(message, StreamOpened):
                    self._link.send(CloseStream(message.stream))  # whoever wanted it was interrupted
            case Failed():
                self._take_failure(error_of(message))
            case _:
                raise ProtocolError(f"the daemon sent {message!r}")

    def _take_failure(self, error: LoaderError) -> None:
        if isinstance(error, DaemonStopped):
            self._end(error)
        elif isinstance(error, DaemonLost):
            self._last_words = f": {error}"  # it will hang up in a moment
        else:
            raise error

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

    # -- a daemon that died, and what comes after it -------------------------------------------------------------

    def _mourn(self) -> None:
        """The daemon is gone: hear its last words, and hang up."""
        with contextlib.suppress(PeerGone):
            while (message := self._link.recv()) is not None:
                self._dispatch(message)
        self._link.close(linger=0)
        if self._ended is not None:
            return
        self._lost = DaemonLost(f"the daemon at {self.address} has died{self._last_words}")
        if self._lost_since is None:
            self._lost_since = time.monotonic()
        if self._reconnect:
            then = "starting another" if self._restart else f"waiting up to {self._reconnect:g} s for it to come back"
            log.warning("%s; %s", self._lost, then)
        else:
            self._end(self._lost)

    def _come_back(self) -> None:
        """Try once to reach a daemon again; if there is one, every stream is opened anew."""
        assert self._lost is not None and self._lost_since is not None, "there was one"
        away = time.monotonic() - self._lost_since
        if away > self._reconnect:
            self._end(DaemonLost(f"{self._lost}, and did not come back within {self._reconnect:g} s"))
            return
        link = self._lead(self._reach)
        if link is None:
            return
        if self._hung_up:
            link.close()
            return
        self._use(link)
        self._lost, self._last_words = None, ""
        self.arenas.clear()  # the daemon's numbers begin anew; what is alive over the old ones keeps them
        self._shared.clear()
        self._to_open = list(self._receivers)
        log.warning("the daemon at %s is back after %.1f s: streams go on where they were", self.address, away)

    def _reach(self) -> Link | None:
        """Return a link to a daemon that is there again, without the lock; None after a while, if there is none."""
        try:
            if self._restart is not None:
                self._restart()
            return Link(self.address, "client", __version__)
        except (NoDaemon, DaemonLost):
            time.sleep(RETRY)
            return None

    def _open_next(self) -> None:
        """Open the next of the streams that the daemon does not know."""
        receiver = self._receivers.get(self._to_open[0])
        if receiver is not None:
            receiver.open()
        if not self.is_lost:
            self._to_open.pop(0)

    def _end(self, error: LoaderError) -> None:
        """Nothing comes any more: let everybody know."""
        self._ended = self._ended or error
        self._news.notify_all()

    def refuse_fork(self) -> None:
        """Raise in a forked child: neither ZeroMQ's sockets nor our lock survive a fork."""
        if self._pid != _pid:
            raise StreamClosed(
                f"this stream was opened in process {self._pid}, and is used in its fork {_pid}: "
                "sockets do not survive a fork. Connect again in the child."
            )

    def _check(self) -> None:
        if self._ended is not None:
            raise copy(self._ended)

    def _give_back(self) -> None:
        """The sleepy thread: return slots while nobody waits for a batch."""
        while not self._hung_up:
            self._bell.wait()
            time.sleep(SLEEPY)  # let a burst of them go in one message; a thread that waits may be first anyway
            self._bell.clear()
            self._tidy()
        if self._then is not None:
            self._then()

    def _tidy(self) -> None:
        """Return what is to be returned; hang up, if that is wanted and nothing is left."""
        if self._pid != _pid:
            return  # a forked child that ends: the connection is its parent's
        with self.turn:
            if self._hung_up:
                return
            for receiver in list(self._receivers.values()):
                receiver.flush()
            # A private daemon ends with us: nobody fills the slots that arrays still lie over.
            if self._closing and (not self._receivers or self._restart is not None):
                self._hung_up = True
                self._link.close()
                self._end(StreamClosed("the connection was closed"))
                for receiver in list(self._receivers.values()):
                    receiver.flush()  # it is closing, too, and lets go of its memory
                self._bell.ring()
