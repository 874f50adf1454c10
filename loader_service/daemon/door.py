"""Who may come in: accepts lifelines, checks uid and protocol version, and notices when one ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loader_service import __version__
from loader_service.protocol.address import Address
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.lifeline import Lifeline, PeerGone
from loader_service.protocol.messages import PROTOCOL, Hello, Welcome

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds that a new connection has to say hello


@dataclass(eq=False)
class Peer:
    """A client or worker that was let in."""

    identity: bytes
    role: str
    pid: int
    lifeline: Lifeline


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
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def drain(self, peer: Peer) -> None:
        """Take what a peer has handed over so far: it sent that before the message that names it."""
        try:
            while (packet := peer.lifeline.recv(wait=False)) is not None:
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
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for lifeline in list(self._strangers):
            self._turn_away(lifeline)
        for peer in list(self._peers):
            self._peers.remove(peer)
            self._loop.remove_reader(peer.lifeline.fileno())
            peer.lifeline.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # out of descriptors, or the peer has hung up already
            log.warning("a connection could not be accepted: %s", error)
            return
        connection.setblocking(False)
        lifeline = Lifeline(connection)
        self._strangers[lifeline] = self._loop.call_later(PATIENCE, self._turn_away, lifeline)
        self._loop.add_reader(lifeline.fileno(), self._greet, lifeline)

    def _turn_away(self, lifeline: Lifeline) -> None:
        self._strangers.pop(lifeline).cancel()
        self._loop.remove_reader(lifeline.fileno())
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
        except ProtocolError as error:
            log.warning("a peer was refused: %s", error)
            try:
                lifeline.send(failed(error))
            except PeerGone:
                log.debug("it did not wait for the reason")
            self._turn_away(lifeline)
        else:
            self._strangers.pop(lifeline).cancel()
            self._loop.remove_reader(lifeline.fileno())
            self._loop.add_reader(lifeline.fileno(), self.drain, peer)
            self._peers.add(peer)
            lifeline.send(Welcome(__version__, os.getpid()))

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
        peer = Peer(message.identity, message.role, pid, lifeline)
        if not self._welcome(peer):
            raise ProtocolError(f"pid {pid} is no worker of this daemon, or has joined already")
        return peer
