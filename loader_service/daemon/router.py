"""A ROUTER socket of the daemon: typed messages in, typed messages out. The only file here that touches ZeroMQ.

ZeroMQ's descriptor is edge-triggered: it may stay silent although messages wait, after any call on its socket. So
whoever is woken takes until there is nothing left, and looks again after sending; until then there is no need to look.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from enum import Enum, auto
from typing import Any

import zmq

from loader_service.protocol.codec import MAX_NBYTES, decode, encode
from loader_service.protocol.errors import ProtocolError
from loader_service.protocol.link import descriptor, has_message
from loader_service.protocol.messages import tags_of

log = logging.getLogger(__name__)

DRAIN = 64  # messages taken at a time, so that neither socket starves the other
HIGH_WATER = 10_000  # messages; a peer that has missed this many does not read
BACKLOG = 64  # messages of one peer that may wait for us in memory; the others wait in its own
LINGER = 500  # milliseconds for the last messages to leave
AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)  # as a number: enums take long to be joined


class Sent(Enum):
    """What became of a message."""

    WELL = auto()
    NOT_READ = auto()  # its receiver has not read so many before it
    TO_NOBODY = auto()  # its receiver has hung up


class Router:
    """One bound socket, and the peers that speak on it."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, union: Any) -> None:
        """Listen at `endpoint` for the messages of a union of their types."""
        self._tags = tags_of(union)
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to nobody is an error, not silence
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_NBYTES)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        self._socket.setsockopt(zmq.RCVHWM, BACKLOG)
        self._socket.bind(endpoint)
        self.fd = descriptor(self._socket)
        self._is_drained = False  # nothing has come since we looked, or the descriptor will tell

    def take(self, admitted: Container[bytes]) -> Iterator[tuple[bytes, Any]]:
        """Yield what has come, up to DRAIN messages: the sender's identity, and a message or a ProtocolError.

        What others than the admitted have sent is not even looked at: None stands in its place.
        """
        if self._is_drained:
            return
        for _ in range(DRAIN):
            if not has_message(self._socket):
                self._is_drained = True
                return
            identity, packed = self._socket.recv(), self._socket.recv()
            more = 0
            while self._socket.getsockopt(zmq.RCVMORE):
                self._socket.recv()
                more += 1
            if identity not in admitted:
                yield identity, None
                continue
            try:
                if more:
                    raise ProtocolError(f"a message of {1 + more} parts, expected one")
                message = decode(packed, self._tags)
            except ProtocolError as error:
                message = error
            yield identity, message

    def stir(self) -> None:
        """Something may have come: the descriptor says so, or it is time to look."""
        self._is_drained = False

    def send(self, identity: bytes, message: Any) -> Sent:
        """Send a message. Return what became of it."""
        self._is_drained = False
        packed = encode(message)
        try:
            self._socket.send(identity, AND_MORE)
            self._socket.send(packed, zmq.NOBLOCK)
        except zmq.Again:
            return Sent.NOT_READ
        except zmq.ZMQError as error:
            log.debug("cannot send: %s", error, extra={"tag": message.tag})
            return Sent.TO_NOBODY
        return Sent.WELL

    def close(self) -> None:
        """Close it; what was sent last still leaves."""
        self._socket.close(linger=LINGER)
