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
        self._is_bundled = True
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
        bundle = self._come_to(n, cycle)
        if bundle is None:
            return self._supply.take(n, cycle)
        start, stop = self._cut(bundle, n, 1)
        fields = {name: array[start:stop] for name, array in bundle.items()}
        return Batch(n, n // self.info.batches_per_epoch, fields)

    def take_several(self, n: int, most: int, cycle: Cycle) -> Bundle:
        """Return batch `n`, and up to `most` - 1 that follow it in the same bundle: nothing is copied."""
        bundle = self._come_to(n, cycle)
        if bundle is None:
            return self._supply.take_several(n, most, cycle)
        start, stop = self._cut(bundle, n, most)
        rows = self.info.rows(n)
        shape = (stop - start) // rows, rows
        taken = {name: array[start:stop].reshape(*shape, *array.shape[1:]) for name, array in bundle.items()}
        return Bundle.of(n, taken)

    def stats(self) -> dict[str, float]:
        """Return counts and seconds."""
        stats, size = self._supply.stats(), self._size
        counts = {name: stats[name] * size for name in ("copied_batches", "ready_batches")}
        return {**stats, **counts, "batches": self._taken + (0 if self._is_bundled else stats["batches"])}

    def close(self) -> None:
        """Ask for nothing any more; arrays that are alive stay as they are. Safe in a finalizer."""
        self._arrays = {}
        self._singly = None  # which keeps the dataset
        self._supply.close()

    # -- within ----------------------------------------------------------------------------------------------

    @property
    def _size(self) -> int:
        """Batches of what the daemon hands out."""
        return self._supply.info.bundle

    def _come_to(self, n: int, cycle: Cycle) -> dict[str, np.ndarray] | None:
        """Return the arrays of the bundle that batch `n` is in; None where batches come one by one."""
        if not self._is_bundled:
            return None
        number, _ = self._bundles.place(n)
        if number == self._number and (bundle := self._arrays):
            return bundle
        self._number, self._arrays = number, {}  # before the next one is lent
        bundles = cycle and (self._bundles.place(cycle[0])[0], self._bundles.place(cycle[1])[0])
        try:
            taken = self._supply.take(number, bundles)
        except BundleFailed:
            self._go_on_singly()
            return None
        self._arrays = {IDS: taken.ids, **taken}
        return self._arrays

    def _cut(self, bundle: dict[str, np.ndarray], n: int, most: int) -> tuple[int, int]:
        """Return the rows of up to so many batches of a bundle, from `n` on: a short one is by itself."""
        _, part = self._bundles.place(n)
        of_each, in_all = self.info.rows(n), len(bundle[IDS])
        start = part * self.info.batch_size
        count = min(most, (in_all - start) // of_each)
        stop = start + count * of_each
        self._taken += count
        if stop == in_all:
            self._arrays = {}  # its slot is lent for no longer than it is needed
        return start, stop

    def _go_on_singly(self) -> None:
        """Have batches come one by one from here on."""
        if self._singly is not None:
            single = self._singly()
            bundles, self._supply, self._is_bundled = self._supply, single, False
            bundles.close()
        if self._singly is None:  # another thread has closed the stream, maybe meanwhile
            self._supply.close()
            raise StreamClosed("the stream was closed")
        self._singly = None
