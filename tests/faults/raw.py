"""Peers that say what they like: the protocol without the manners of our client."""

from __future__ import annotations

import os
import time
from typing import Any

import zmq

from loader_service import Dataset, __version__
from loader_service.protocol.address import Address
from loader_service.protocol.arena import memory_of
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import Link
from loader_service.protocol.messages import OpenStream, ShareTable, StreamOpened
from loader_service.protocol.shard import WHOLE

PATIENCE = 20.0  # seconds


class RawClient:
    """A client that was let in."""

    def __init__(self, address: str) -> None:
        self.link = Link(Address.parse(address), "client", __version__)

    def say(self, message: Any) -> None:
        """Send a message, or any bytes."""
        if isinstance(message, bytes):
            self.link.socket.send(message)
        else:
            self.link.send(message)

    def hear(self, kind: type[Any]) -> Any:
        """Return the next message of a kind; fail if the daemon hangs up before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if isinstance(message := self.link.recv(), kind):
                return message
            if message is None:
                self.link.socket.poll(10, zmq.POLLIN)
                self.take_shared()
        raise AssertionError(f"no {kind.__name__} came")

    def take_shared(self) -> None:
        """Take what was handed over, and let go of it; raises PeerGone if the daemon has hung up."""
        while (packet := self.link.recv_shared()) is not None:
            os.close(packet[1])

    def hand_tables(self, dataset: Dataset) -> None:
        """Hand over the arrays of a dataset."""
        for table, array in dataset.tables.items():
            with memory_of(array, "loader-service table") as fd:
                self.link.lifeline.send(ShareTable(table), fd)

    def open(self, dataset: Dataset, stream: int = 0, prefetch: int = 4) -> StreamOpened:
        """Open a stream, as our client does."""
        self.hand_tables(dataset)
        self.say(OpenStream(stream, dataset.to_dict(), prefetch, WHOLE))
        opened: StreamOpened = self.hear(StreamOpened)
        return opened

    def is_let_go(self) -> bool:
        """Whether the daemon has hung up."""
        try:
            self.take_shared()
        except PeerGone:
            return True
        return False

    def vanish(self) -> None:
        """Die: the kernel closes what was open, and what was sent arrives."""
        self.link.lifeline.close()
        self.link.close()
