"""`connect`, and the `Loader` that it returns: one connection, any number of streams."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from loader_client.bundled_supply import open_supply
from loader_client.channel import Channel
from loader_client.private import PrivateDaemon
from loader_client.stream import Stream
from loader_client.supply import InlineSupply, Supply
from loader_service.protocol.address import Address
from loader_service.protocol.errors import DatasetError, DatasetWarning, NoDaemon, StreamClosed
from loader_service.protocol.messages import MOST_BATCHES, MOST_PREFETCH, MOST_WORKERS
from loader_service.protocol.shard import WHOLE, Shard
from loader_service.protocol.tables import carried_in

if TYPE_CHECKING:
    from loader_service import Dataset

GARBAGE = (
    "the stream was closed with the Loader that opened it, which nobody refers to any more: "
    "keep it in a variable, or use `with`"
)
DEFAULT_RECONNECT = 60.0  # seconds


def connect(
    address: str | None = None,
    workers: int | None = None,
    *,
    memory: str | int | None = None,
    task_timeout: float | None = None,
    reconnect: float = DEFAULT_RECONNECT,
) -> Loader:
    """Connect to a daemon; start a private one if need be.

    Args:
        address: Of the daemon to join. Without one, the default address's daemon is joined, or a private one is
            started where none runs.
        workers: Start a private daemon with so many processes in any case; 0 runs everything in this process:
            breakpoints work, and the bytes are the same.
        memory: Bound of a private daemon's shared memory, in bytes or as "4 GiB".
        task_timeout: Seconds that a private daemon's worker may take for one task (some rows, or one slow one) before
            it is killed and the rows are made by another; 120 by default.
        reconnect: Seconds that a daemon that died is waited for, before its streams end with DaemonLost; they go on
            where they were. A private daemon is started again instead. 0 waits for nobody.
    Raises:
        NoDaemon: If nobody answers at `address`.
    """
    if workers is not None and not _is_whole(workers, 0, MOST_WORKERS):
        raise ValueError(f"workers is {workers!r}, expected a number of processes from 0 to {MOST_WORKERS:,}, or None")
    if address is not None and not isinstance(address, str):
        raise ValueError(f"address is {address!r}, expected text, as in 'ipc:///tmp/my-loader', or None")
    settings: dict[str, str | float | None] = {"workers": workers, "memory": memory, "task_timeout": task_timeout}
    private = {name: value for name, value in settings.items() if value is not None}
    if address is not None and private:
        shown = ", ".join(f"{name}={value!r}" for name, value in private.items())
        raise ValueError(
            f"connect(address={address!r}, {shown}): an address joins a running daemon, which has its "
            "workers and settings already; `loader-service scale N` changes the number of workers."
        )
    if reconnect < 0:
        raise ValueError(f"reconnect is {reconnect}, expected 0 seconds or more")
    if workers == 0:
        return Loader(None)
    if address is not None:
        return Loader(Channel(Address.parse(address), reconnect=reconnect))
    if not private:
        try:
            return Loader(Channel(Address.default(), reconnect=reconnect))
        except NoDaemon:
            pass
    return connect_privately(workers, memory=memory, task_timeout=task_timeout, reconnect=reconnect)


def connect_privately(
    workers: int | None,
    *,
    memory: str | int | None = None,
    task_timeout: float | None = None,
    reconnect: float = DEFAULT_RECONNECT,
) -> Loader:
    """Start a private daemon in any case; arguments are those of `connect`."""
    daemon = PrivateDaemon(workers=workers, memory=memory, task_timeout=task_timeout)
    try:
        return Loader(Channel(daemon.address, reconnect=reconnect, restart=daemon.restart), daemon)
    except BaseException:
        daemon.stop()
        raise


class Loader:
    """A connection to a daemon, and the streams that were opened over it; leave it with `with` or `close`."""

    def __init__(self, channel: Channel | None, daemon: PrivateDaemon | None = None) -> None:
        self._channel = channel
        self._daemon = daemon
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._closed = False
        self._abandoned = weakref.finalize(self, _abandon, channel, daemon, self._streams)

    @property
    def address(self) -> str | None:
        """The daemon's address; None where everything runs in this process."""
        return str(self._channel.address) if self._channel else None

    def stream(
        self,
        dataset: Dataset | str,
        prefetch: int | None = None,
        *,
        shard: tuple[int, int] | None = None,
        start: int | Literal["latest"] = 0,
    ) -> Stream:
        """Open a stream over a dataset, or over the one that the daemon's config serves under that name.

        Args:
            prefetch: Batches that are asked for ahead; where None, 8, or as many as lie in 128 MiB, up to 64. Small
                ones of arrays come in bundles, of which 8 are asked for at the least.
            shard: (rank, count), where `count` trainers work on one model: the stream hands out an equal part of the
                rows of every batch. All shards have the same number of steps.
            start: The first batch, counted from 0 over all epochs; "latest" joins the foremost stream of the same
                dataset where that is now, and shares its batches from there on.
        Warns:
            DatasetWarning: If your own code seems to make another sample each time that it is given the same one.
        Raises:
            DatasetError: If the dataset cannot be opened.
            NotEnoughMemory: If two of its batches do not fit into shared memory.
        """
        if self._closed:
            raise StreamClosed("the connection was closed: connect again")
        if prefetch is not None and not _is_whole(prefetch, 1, MOST_PREFETCH):
            raise ValueError(f"prefetch is {prefetch!r}, expected a number of batches from 1 to {MOST_PREFETCH:,}")
        if not isinstance(dataset, str) and not hasattr(dataset, "to_dict"):
            raise ValueError(f"dataset is {dataset!r}, expected a Dataset, or a name that the daemon serves")
        if start != "latest" and not _is_whole(start, 0, MOST_BATCHES):
            raise ValueError(f'start is {start!r}, expected the number of a batch, from 0 on, or "latest"')
        part = _shard_of(shard)
        if self._channel is not None and self._daemon is None and not isinstance(dataset, str):
            for why in carried_in(dataset.to_dict()):
                raise DatasetError(why)
        if self._channel is None:
            if isinstance(dataset, str):
                raise DatasetError(f"{dataset!r}: names are served by a daemon; workers=0 needs the Dataset itself")
            supply: Supply = InlineSupply(dataset, part)
        else:
            supply = open_supply(self._channel, dataset, prefetch or 0, part)
        for told in supply.doubts:
            warnings.warn(told, DatasetWarning, stacklevel=2)
        stream = Stream(supply)
        stream.move(supply.latest if start == "latest" else int(start))
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Close all streams and hang up; a private daemon ends. Arrays that are alive stay valid."""
        if self._closed:
            return
        self._closed = True
        self._abandoned.detach()
        for stream in list(self._streams):
            stream.close()
        if self._channel is not None:
            self._channel.close()
        if self._daemon is not None:
            self._daemon.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.address or "this process"
        return f"<Loader of {where}{', a private daemon' if self._daemon else ''}{', closed' if self._closed else ''}>"


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def _shard_of(given: tuple[int, int] | None) -> Shard:
    if given is None:
        return WHOLE
    try:
        rank, count = given
        return Shard(rank, count)
    except (TypeError, ValueError):
        raise ValueError(f"shard is {given!r}, expected (rank, count), with rank from 0 to count - 1") from None


def _abandon(channel: Channel | None, daemon: PrivateDaemon | None, streams: Iterable[Stream]) -> None:
    """The loader is garbage, or the script ends without closing it. Runs in a finalizer: nothing here waits.

    Its streams end with it, though something may still refer to them: a notebook keeps all that it ever showed, and a
    daemon for each time that a cell was run would be the price.
    """
    for stream in list(streams):
        stream.close(GARBAGE)
    if channel is not None:
        channel.abandon(then=daemon.stop if daemon else lambda: None)
