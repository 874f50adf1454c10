"""The AF_UNIX connection that every client and worker holds beside its ZeroMQ socket.

It does what ZeroMQ cannot: hand over descriptors (SCM_RIGHTS), prove the peer's uid and pid (SO_PEERCRED), and
tell that the peer died (end-of-file; a peer that is merely stopped is alive). One packet is one message, with at
most one descriptor. What was sent before a ZeroMQ message was sent is here when that message is: a receiver that
drains its lifeline first never waits for a descriptor.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

from loader_service.protocol.codec import decode, encode
from loader_service.protocol.errors import DaemonLost, ProtocolError

MAX_PACKET = 64 * 1024  # bytes


class PeerGone(Exception):
    """The other side has closed its lifeline: it is dead, or as good as dead."""


class Lifeline:
    """One end of the connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def connect(cls, path: Path, patience: float) -> Lifeline:
        """Connect to the daemon that listens at `path`.

        Raises:
            ConnectionRefusedError, FileNotFoundError: If nobody listens.
            BlockingIOError: If the daemon does not accept within `patience` seconds.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not settimeout(): that makes Python wait even where MSG_DONTWAIT is said.
        limit = struct.pack("ll", int(patience), int(patience % 1 * 1e6))
        try:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):  # connect, too, heeds the first
                sock.setsockopt(socket.SOL_SOCKET, option, limit)
            sock.connect(os.fspath(path))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def peer(self) -> tuple[int, int]:
        """Return pid and uid of the process at the other end, as the kernel knows them."""
        pid, uid, _ = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid, uid

    def send(self, message: Any, fd: int | None = None) -> None:
        """Send a message, and a copy of descriptor `fd` with it.

        Raises:
            PeerGone: If the other side is gone, or reads so little that its buffer is full.
            ProtocolError: If the message is larger than a packet.
        """
        packed = encode(message)
        if len(packed) > MAX_PACKET:
            raise ProtocolError(f"message {message.tag!r} has {len(packed):,} bytes, a packet at most {MAX_PACKET:,}")
        try:
            rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._socket.sendmsg([packed], rights, socket.MSG_NOSIGNAL)
        except OSError as error:  # hung up on, closed here, or its buffer is full
            raise PeerGone(str(error)) from error

    def recv(self, *, wait: bool) -> tuple[Any, int | None] | None:
        """Return the next message and its descriptor, which the caller owns.

        None if there is none yet; with `wait`, if there is none within the socket's patience.

        Raises:
            PeerGone: At the end of file.
            ProtocolError: If the packet is no message.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            # Not socket.recv_fds: it takes flags and ignores them.
            packed, rights, received, _ = self._socket.recvmsg(MAX_PACKET, socket.CMSG_LEN(4), flags)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise PeerGone(str(error)) from error
        fds = [struct.unpack("i", content)[0] for *_, content in rights]
        if not packed and not fds:
            raise PeerGone("end of file")
        try:
            if received & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError(f"a packet of more than {MAX_PACKET} bytes, or of several descriptors")
            return decode(packed), fds[0] if fds else None
        except ProtocolError:
            for fd in fds:
                os.close(fd)
            raise

    def close(self) -> None:
        """Tell the other side that this one is gone."""
        self._socket.close()


def greet(lifeline: Lifeline, hello: Any) -> Any:
    """Send `hello`, and return the daemon's answer: Welcome, or Failed.

    Raises:
        DaemonLost: If the daemon does not answer in time, or hangs up.
    """
    try:
        lifeline.send(hello)
        answer = lifeline.recv(wait=True)
    except PeerGone as error:
        raise DaemonLost(f"the daemon accepted the connection and hung up: {error}") from error
    if answer is None:
        raise DaemonLost("the daemon accepted the connection and did not answer: is it stopped, or under a debugger?")
    return answer[0]
