"""Who may come in: accepts lifelines, checks uid and protocol version, and notices when one ends.

Whoever has not said hello yet is a stranger. Only some of them are listened to at a time, and each for some seconds:
the others wait in the kernel's queue, where they take no descriptors of ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loader_service import __version__
from loader_service.machine import most_descriptors
from loader_service.protocol.address import Address
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import LoaderError, ProtocolError, RemoteError
from loader_service.protocol.lifeline import Lifeline, PeerGone
from loader_service.protocol.messages import PROTOCOL, Hello, Welcome

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds that a new connection has to say hello
MOST_STRANGERS = 32  # that are listened to at a time
PAUSE = 0.1  # seconds until the next attempt, where a connection could not be accepted
SPARE_DESCRIPTORS = 16  # that no client gets: a worker that has to be replaced needs three


@dataclass(eq=False)
class Peer:
    """A client or worker that was let in."""

    identity: bytes
    role: str
    pid: int
    lifeline: Lifeline
    tables: set[str] = field(default_factory=set)  # that it handed over, and that no message of it has named yet
    refused: int = 0  # messages of it


class Door:
    """The listening end of the lifelines."""

    def __init__(
        self,
        address: Address,
        *,
        welcome: Callable[[Peer], bool],
        packet: Callable[[Peer, Any, int | None], None],
        gone: Callable[[Peer], None],
    ) -> None:
        """Listen; `welcome` may refuse a peer by returning False."""
        self._loop = asyncio.get_running_loop()
        self._welcome, self._packet, self._gone = welcome, packet, gone
        self._peers: set[Peer] = set()
        self._strangers: dict[Lifeline, asyncio.TimerHandle] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(os.fspath(address.lifeline))
        self._listener.listen(128)
        self._listen()

    @property
    def tables(self) -> set[str]:
        """Those that peers have handed over, and that no message has named yet."""
        return {table for peer in self._peers for table in peer.tables}

    def drain(self, peer: Peer) -> None:
        """Take what a peer has handed over so far: it sent that before the message that names it."""
        try:
            while peer in self._peers and (packet := peer.lifeline.recv(wait=False)) is not None:
                self._packet(peer, *packet)
        except (PeerGone, ProtocolError) as error:
            self.dismiss(peer, str(error))

    def hand(self, peer: Peer, message: Any, fd: int) -> None:
        """Hand a descriptor over; a peer that cannot take it is as good as dead."""
        try:
            peer.lifeline.send(message, fd)
        except PeerGone as error:
            self._loop.call_soon(self.dismiss, peer, str(error))

    def dismiss(self, peer: Peer, reason: str) -> None:
        """Treat a peer as dead: hang up on it."""
        if peer in self._peers:
            self._peers.remove(peer)
            self._loop.remove_reader(peer.lifeline.fileno())
            peer.lifeline.close()
            log.debug("%s gone", peer.role, extra={"pid": peer.pid, "reason": reason})
            self._gone(peer)

    def close(self) -> None:
        """Hang up on everybody."""
        for lifeline in list(self._strangers):
            self._turn_away(lifeline)
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for peer in list(self._peers):
            self._peers.remove(peer)
            self._loop.remove_reader(peer.lifeline.fileno())
            peer.lifeline.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # out of descriptors, or the peer has hung up already
            log.warning("a connection could not be accepted: %s", error)
            self._loop.remove_reader(self._listener.fileno())  # or it would be tried, and told of, without a pause
            self._loop.call_later(PAUSE, self._listen)
            return
        connection.setblocking(False)
        lifeline = Lifeline(connection)
        self._strangers[lifeline] = self._loop.call_later(PATIENCE, self._turn_away, lifeline)
        self._loop.add_reader(lifeline.fileno(), self._greet, lifeline)
        if len(self._strangers) >= MOST_STRANGERS:
            self._loop.remove_reader(self._listener.fileno())  # until one of them is a stranger no more

    def _know(self, lifeline: Lifeline) -> None:
        """It is a stranger no more: there is room for another one."""
        self._strangers.pop(lifeline).cancel()
        self._loop.remove_reader(lifeline.fileno())
        self._listen()

    def _turn_away(self, lifeline: Lifeline) -> None:
        self._know(lifeline)
        lifeline.close()

    def _greet(self, lifeline: Lifeline) -> None:
        try:
            packet = lifeline.recv(wait=False)
            if packet is None:
                return
            message, fd = packet
            if fd is not None:
                os.close(fd)
            peer = self._check(lifeline, message)
        except PeerGone:
            self._turn_away(lifeline)
        except LoaderError as error:
            log.warning("a peer was refused: %s", error)
            try:
                lifeline.send(failed(error))
            except PeerGone:
                log.debug("it did not wait for the reason")
            self._turn_away(lifeline)
        else:
            self._know(lifeline)
            self._loop.add_reader(lifeline.fileno(), self.drain, peer)
            self._peers.add(peer)
            try:
                lifeline.send(Welcome(__version__, os.getpid()))
            except PeerGone as error:  # it has died meanwhile
                self.dismiss(peer, str(error))

    def _check(self, lifeline: Lifeline, message: Any) -> Peer:
        pid, uid = lifeline.peer()
        if uid != os.getuid():
            raise ProtocolError(f"the daemon runs as uid {os.getuid()}, and serves that user only; you are uid {uid}")
        if not isinstance(message, Hello):
            raise ProtocolError(f"expected a greeting, got {type(message).__name__}")
        if message.protocol != PROTOCOL:
            raise ProtocolError(
                f"this {message.role} (loader-service {message.version}) speaks protocol {message.protocol}, "
                f"the daemon (loader-service {__version__}) speaks protocol {PROTOCOL}: "
                "install the same version on both sides."
            )
        # The kernel gives out the lowest number that is free: so this one tells how many are in use.
        if message.role == "client" and lifeline.fileno() >= most_descriptors() - SPARE_DESCRIPTORS:
            raise RemoteError(
                f"the daemon has no file descriptors left for another client: it may have {most_descriptors()} "
                "(`ulimit -n` where it is started)"
            )
        peer = Peer(message.identity, message.role, pid, lifeline)
        if not self._welcome(peer):
            raise ProtocolError(f"pid {pid} has joined already, or is no worker of this daemon")
        return peer
