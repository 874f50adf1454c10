"""Small batches, cut out of the bundles that the daemon lends.

To a `SharedSupply` a bundle is one batch. It is lent until no array over any of its batches is left. Where one cannot
be made, its batches are asked for one by one from then on: those before the one that is to blame are handed out, and
each error comes with its own batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from loader_client.batch import Batch, Bundle
from loader_client.channel import Channel
from loader_client.supply import BundleFailed, Cycle, SharedSupply, Supply
from loader_service.protocol.bundles import Bundles, unbundled
from loader_service.protocol.errors import StreamClosed
from loader_service.protocol.layout import IDS
from loader_service.protocol.ledger import Ledger
from loader_service.protocol.shard import Shard
from loader_service.protocol.spec import DatasetInfo


def open_supply(channel: Channel, dataset: Any, prefetch: int, shard: Shard) -> Supply:
    """Open a stream with a daemon; arguments and errors are those of `SharedSupply`."""
    of_one = partial(SharedSupply, channel, dataset, prefetch, shard)
    supply = of_one(bundles=True)
    return supply if supply.info.bundle == 1 else BundledSupply(supply, singly=of_one)


class BundledSupply:
    """Batches out of a daemon's bundles; by number, as from any other supply."""

    def __init__(self, bundles: SharedSupply, singly: Callable[[], SharedSupply]) -> None:
        """Cut up what `bundles` supplies.

        Args:
            singly: Opens another supply of the same dataset, of batches that come one by one.
        """
        self.info: DatasetInfo = unbundled(bundles.info)
        self.shard = bundles.shard
        self.doubts = bundles.doubts
        self._bundles = Bundles(bundles.info.bundle, self.info.batches_per_epoch)
        self.latest = self._bundles.first(bundles.latest)
        self._supply = bundles
        self._singly: Callable[[], SharedSupply] | None = singly
        self._number = -1  # of the bundle that is being cut up
        self._arrays: dict[str, np.ndarray] = {}  # of it; nothing, once all of it was handed out
        self._taken = 0

    @property
    def ledger(self) -> Ledger:
        """Samples that are replaced."""
        return self._supply.ledger

    def refuse_fork(self) -> None:
        """Raise in a forked child: its sockets are its parent's."""
        self._supply.refuse_fork()

    def take(self, n: int, cycle: Cycle) -> Batch:
        """Return batch `n`, when it is there; raises as a `SharedSupply` of batches does."""
        cut = self._cut(n, 1, cycle)
        if cut is None:
            return self._supply.take(n, cycle)
        bundle, start, stop = cut
        fields = {name: array[start:stop] for name, array in bundle.items()}
        return Batch(n, n // self.info.batches_per_epoch, fields)

    def take_several(self, n: int, most: int, cycle: Cycle) -> Bundle:
        """Return batch `n`, and up to `most` - 1 that follow it in the same bundle: nothing is copied."""
        cut = self._cut(n, most, cycle)
        if cut is None:
            return self._supply.take_several(n, most, cycle)
        bundle, start, stop = cut
        rows = self.info.rows(n)
        shape = (stop - start) // rows, rows
        taken = {name: array[start:stop].reshape(*shape, *array.shape[1:]) for name, array in bundle.items()}
        return Bundle.of(n, taken)

    def stats(self) -> dict[str, float]:
        """Return counts and seconds."""
        stats, size = self._supply.stats(), self._supply.info.bundle
        counts = {name: stats[name] * size for name in ("copied_batches", "ready_batches")}
        return {**stats, **counts, "batches": self._taken + (stats["batches"] if size == 1 else 0)}

    def close(self) -> None:
        """Ask for nothing any more; arrays that are alive stay as they are. Safe in a finalizer."""
        self._arrays = {}
        self._singly = None  # which keeps the dataset
        self._supply.close()

    # -- within ----------------------------------------------------------------------------------------------

    def _cut(self, n: int, most: int, cycle: Cycle) -> tuple[dict[str, np.ndarray], int, int] | None:
        """Return the bundle that batch `n` is in, and the rows (start, stop) of up to so many batches from there on.

        A short one is by itself. None where batches come one by one.
        """
        if self._supply.info.bundle == 1:
            return None
        number, part = self._bundles.place(n)
        bundle = self._arrays if number == self._number else {}
        if not bundle:
            self._number, self._arrays = number, {}  # before the next one is lent
            try:
                taken = self._supply.take(number, cycle and self._cycle_of_bundles(cycle))
            except BundleFailed:
                self._go_on_singly()
                return None
            bundle = self._arrays = {IDS: taken.ids, **taken}
        of_each, in_all = self.info.rows(n), len(bundle[IDS])
        start = part * self.info.batch_size
        count = min(most, (in_all - start) // of_each)
        stop = start + count * of_each
        self._taken += count
        if stop == in_all:
            self._arrays = {}  # its slot is lent for no longer than it is needed
        return bundle, start, stop

    def _cycle_of_bundles(self, cycle: tuple[int, int]) -> Cycle:
        (first, _), (last, _) = map(self._bundles.place, cycle)
        return first, last

    def _go_on_singly(self) -> None:
        """Have batches come one by one from here on."""
        if self._singly is not None:
            bundles, self._supply = self._supply, self._singly()
            bundles.close()
        if self._singly is None:  # another thread has closed the stream, maybe meanwhile
            self._supply.close()
            raise StreamClosed("the stream was closed")
        self._singly = None
