"""A peer's connection to the daemon: the lifeline and the ZeroMQ socket, opened and closed together.

Clients, workers and the command line hold one each. A link belongs to the thread that uses it, and to the process
that opened it: ZeroMQ contexts do not survive a fork.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from typing import Any, Literal

import zmq

from loader_service.protocol.address import Address
from loader_service.protocol.codec import MAX_NBYTES, decode, encode, error_of
from loader_service.protocol.errors import AddressError, DaemonLost, LoaderError, NoDaemon, ProtocolError
from loader_service.protocol.lifeline import Lifeline, PeerGone, greet
from loader_service.protocol.messages import PROTOCOL, Failed, Hello, Welcome

PATIENCE = 10.0  # seconds that a daemon may take to accept; it answers within milliseconds unless it is stopped
DESCRIPTORS = 16  # that a link takes, and some to spare
READABLE = int(zmq.POLLIN)


def descriptor(sock: zmq.Socket[bytes]) -> int:
    """Return the descriptor that becomes readable when something happens on a socket; edge-triggered."""
    fd = sock.getsockopt(zmq.FD)
    assert isinstance(fd, int), "ZMQ_FD is a number"
    return fd


def has_message(sock: zmq.Socket[bytes]) -> bool:
    """Whether a message waits. What the descriptor has told is answered with it, as if by asking for ZMQ_EVENTS.

    To poll takes less time than to ask for those, or to have it raised that there is none.
    """
    return bool(zmq.zmq_poll([(sock, READABLE)], 0))


class Link:
    """One peer's way to the daemon."""

    def __init__(self, address: Address, role: Literal["client", "worker"], version: str) -> None:
        """Connect and greet.

        Raises:
            NoDaemon: If nobody listens at the address.
            AddressError: If somebody else's daemon does.
            DaemonLost: If somebody listens, but does not answer.
            ProtocolError: If the daemon refuses this peer: it speaks another protocol version.
            LoaderError: If this process has too many files open.
        """
        self.address = address
        self.identity = os.urandom(16)
        try:
            self.lifeline = Lifeline.connect(address.lifeline, PATIENCE)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoDaemon(
                f"no daemon answers at {address}. Start one with `loader-service start --address {address}`."
            ) from error
        except PermissionError as error:
            raise AddressError(
                f"the address {address} belongs to another user, and you are uid {os.getuid()}: "
                "a daemon serves its own user only; containers must run as the same one."
            ) from error
        except OSError as error:
            raise DaemonLost(f"the daemon at {address} does not accept connections: {error}") from error
        with contextlib.ExitStack() as undo:
            undo.callback(self.lifeline.close)
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if self.lifeline.fileno() > most - DESCRIPTORS:  # libzmq would end the whole process for want of one
                raise LoaderError(
                    f"this process may have {most} files open, too few for a connection: raise `ulimit -n`"
                )
            pid, uid = self.lifeline.peer()
            if uid != os.getuid():
                raise AddressError(f"the daemon at {address} (pid {pid}) belongs to uid {uid}, not to you")
            answer = greet(self.lifeline, Hello(PROTOCOL, role, self.identity, version))
            if isinstance(answer, Failed):
                raise error_of(answer)
            if not isinstance(answer, Welcome):
                raise ProtocolError(f"the daemon at {address} answered a greeting with {answer!r}")
            self.daemon = answer
            self._context = zmq.Context()
            undo.callback(self._context.term)
            self.socket = self._context.socket(zmq.DEALER)
            self.socket.setsockopt(zmq.IDENTITY, self.identity)
            self.socket.setsockopt(zmq.LINGER, 0)
            self.socket.setsockopt(zmq.SNDHWM, 0)  # what is in flight is bounded by slots and tasks, not by this
            self.socket.setsockopt(zmq.RCVHWM, 0)
            self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_NBYTES)
            self.socket.connect(address.clients if role == "client" else address.workers)
            undo.pop_all()

    @property
    def zmq_fd(self) -> int:
        """The descriptor to poll for messages; edge-triggered, so `recv` until there is none before polling."""
        return descriptor(self.socket)

    def send(self, message: Any) -> None:
        """Send a message."""
        self.socket.send(encode(message))

    def recv(self) -> Any | None:
        """Return the next message; None if there is none yet."""
        return decode(self.socket.recv()) if has_message(self.socket) else None

    def recv_shared(self) -> tuple[Any, int] | None:
        """Return the next message of the lifeline and its descriptor; None if there is none yet.

        Raises:
            PeerGone: If the daemon is gone.
        """
        packet = self.lifeline.recv(wait=False)
        if packet is None:
            return None
        message, fd = packet
        if fd is None:
            raise ProtocolError(f"{message!r} came over the lifeline without a descriptor")
        return message, fd

    def ask(self, message: Any, patience: float) -> Any:
        """Send a message, and return the next one that comes back: for a link that serves one question.

        Raises:
            DaemonLost: If no answer comes within `patience` seconds, or the daemon ends.
        """
        self.send(message)
        deadline = time.monotonic() + patience
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.lifeline.fileno(), zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            poller.poll(int(left * 1000) + 1)
            if (answer := self.recv()) is not None:
                return answer
            try:
                self.recv_shared()
            except PeerGone as error:
                raise DaemonLost(f"the daemon at {self.address} ended before it answered") from error
        raise DaemonLost(f"the daemon at {self.address} did not answer within {patience:.0f} s")

    def close(self, linger: int = 200) -> None:
        """Hang up; once more does nothing. What comes back is lost.

        Args:
            linger: Milliseconds that what was sent has to leave.
        """
        self.socket.close(linger=linger)
        self._context.term()
        self.lifeline.close()
