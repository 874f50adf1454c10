"""The daemon, from its first socket to its last: one event loop, turns of taking, deciding and sending.

    clients --requests-->  Shelf: which slot  --fill-->  Scheduler: which rows to whom  --tasks-->  workers
    clients <--batches--   Shelf: who waits   <--jobs--  Scheduler: is it complete      <--filled-- workers

The loop never touches data, and never waits for anything but its descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import zmq

from loader_service.config import Settings
from loader_service.daemon.clients import Clients
from loader_service.daemon.control import status_of
from loader_service.daemon.door import Door, Peer
from loader_service.daemon.memory import default_limit
from loader_service.daemon.router import Router
from loader_service.daemon.workers import Workers
from loader_service.pool.engine import Template
from loader_service.protocol.address import Address, hold
from loader_service.protocol.errors import DaemonLost, DaemonStopped, LoaderError, ProtocolError
from loader_service.protocol.messages import FromClient, FromWorker, RowsBegun, ShareTable
from loader_service.protocol.tables import TableStore

log = logging.getLogger(__name__)

SAFETY_TURN = 0.1  # seconds between turns that nobody asked for: an edge-triggered wake-up may have been lost
LONGEST_TURN = 1000  # rounds of taking and sending, before other events have their turn
MOST_TABLES = 1024  # that one peer may hand over before it says what they are for


class Daemon:
    """One daemon."""

    def __init__(
        self,
        address: Address,
        settings: Settings,
        datasets: dict[str, dict[str, Any]],
        *,
        owner: int | None = None,
        template: Template | None = None,
    ) -> None:
        """Serve `datasets` by name; with `owner`, be that process' private daemon.

        Args:
            template: What the first workers are forked from; where None, the daemon starts one.
        """
        self.address = address
        self._template = template
        self._owner = owner
        self.datasets = datasets  # by name, in plain form
        self.memory_limit = settings.memory or default_limit()
        self._settings = settings
        self._tables = TableStore()
        self._routers: list[Router] = []
        self._stop = asyncio.Event()
        self._crash: BaseException | None = None

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._stop.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until `stop`; call `ready` when the workers accept tasks.

        Raises:
            AddressInUse: If a live daemon holds the address.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._fail)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self.stop)
        # Read upwards, this is the order of shutdown: streams are told, workers end, peers are hung up on,
        # the last messages leave.
        with hold(self.address), contextlib.ExitStack() as ending:
            ending.callback(self._tables.close)
            context: zmq.Context[Any] = zmq.Context()
            ending.callback(context.term)
            to_clients = self._open_router(context, self.address.clients, FromClient, ending)
            to_workers = self._open_router(context, self.address.workers, FromWorker, ending)
            self.clients = Clients(
                to_clients,
                self._tables,
                self.memory_limit,
                self.datasets,
                status=lambda: status_of(self),
                stop=self.stop,
                owner=self._owner,
            )
            ending.callback(self.clients.close)
            door = Door(self.address, welcome=self._welcome, packet=self._handed_over, gone=self._gone)
            ending.callback(door.close)
            self.workers = Workers(
                self.address,
                to_workers,
                self._tables,
                self._settings,
                template=self._template,
                listener=self.clients,
                turn=self._turn,
            )
            ending.callback(self.workers.close)
            self.clients.start(self.workers, door)
            self.workers.start(door)
            self._turn_regularly()
            ending.callback(lambda: self._timer.cancel())
            ending.callback(lambda: self.clients.say_goodbye(self._why()))
            if await self._unless_stopped(self.workers.settled):
                ready()
                await self._stop.wait()
            log.info("stopping")
        if self._crash is not None:
            raise self._crash

    def _open_router(
        self, context: zmq.Context[Any], endpoint: str, union: Any, ending: contextlib.ExitStack
    ) -> Router:
        router = Router(context, endpoint, union)
        ending.callback(router.close)
        self._routers.append(router)
        self._loop.add_reader(router.fd, self._woken, router)
        ending.callback(self._loop.remove_reader, router.fd)
        return router

    async def _unless_stopped(self, event: asyncio.Event) -> bool:
        """Wait for an event, or for the end. Return whether it was the event."""
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        return not self._stop.is_set()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake of ours in a callback: what it left half done could be a hang, so end, and say so."""
        self._crash = self._crash or context.get("exception") or RuntimeError(context["message"])
        log.critical("the daemon failed, and ends", exc_info=self._crash)
        self.stop()

    def _why(self) -> LoaderError:
        if self._crash is None:
            return DaemonStopped(f"the daemon at {self.address} was stopped: its streams have ended")
        return DaemonLost(f"the daemon at {self.address} failed: {self._crash!r}; its log tells more")

    # -- turns -----------------------------------------------------------------------------------------------

    def _turn_regularly(self) -> None:
        self._timer = self._loop.call_later(SAFETY_TURN, self._turn_regularly)
        self.workers.watch()
        for router in self._routers:
            router.stir()
        self._turn()

    def _woken(self, router: Router) -> None:
        router.stir()
        self._turn()

    def _turn(self) -> None:
        """Take what has come, decide, send; until nothing comes and nothing is to be sent."""
        for _ in range(LONGEST_TURN):
            took = self.workers.take() + self.clients.take()
            if took + self.workers.send_tasks() + self.clients.send_lends() == 0:
                return
        self._loop.call_soon(self._turn)

    # -- who comes in, and what they hand over -----------------------------------------------------------------

    def _welcome(self, peer: Peer) -> bool:
        return self.clients.welcome(peer) if peer.role == "client" else self.workers.welcome(peer)

    def _gone(self, peer: Peer) -> None:
        (self.clients if peer.role == "client" else self.workers).gone(peer)
        self._loop.call_soon(self._turn)

    def _handed_over(self, peer: Peer, message: Any, fd: int | None) -> None:
        if isinstance(message, RowsBegun) and fd is None and peer.role == "worker":
            self.workers.begun(peer, message)
            return
        if isinstance(message, ShareTable) and fd is not None and len(peer.tables) < MOST_TABLES:
            self._tables.adopt(message.table, fd)
            peer.tables.add(message.table)
            return
        if fd is not None:
            os.close(fd)
        raise ProtocolError(f"{type(message).__name__} over the lifeline, after {len(peer.tables)} tables")
