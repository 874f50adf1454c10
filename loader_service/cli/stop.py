"""`loader-service stop`: end a daemon, and return when it is gone."""

from __future__ import annotations

import select
import time

from rich.console import Console

from loader_service import __version__
from loader_service.cli.options import AddressOption, address_of
from loader_service.protocol.errors import LoaderError
from loader_service.protocol.lifeline import PeerGone
from loader_service.protocol.link import Link
from loader_service.protocol.messages import Stop

EXAMPLES = (
    "loader-service stop",
    "loader-service stop --address ipc:///tmp/my-loader",
)
PATIENCE = 20.0  # seconds


def stop(address: AddressOption = None) -> None:
    """End the daemon: its streams end with an error that says so, its workers end, its memory is freed."""
    where = address_of(address)
    link = Link(where, "client", __version__)
    pid = link.daemon.pid
    try:
        link.send(Stop())
        _await_end(link)
    finally:
        link.close()
    Console(highlight=False).print(f"stopped  {where}  pid {pid}", soft_wrap=True)


def _await_end(link: Link) -> None:
    """Wait until the daemon hangs up, and its address is free again."""
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        select.select([link.lifeline], [], [], left)
        try:
            link.recv_shared()
        except PeerGone:
            return
    raise LoaderError(f"the daemon at {link.address} was told to stop {PATIENCE:.0f} s ago, and still runs")
