"""Which sample stands in a row whose own cannot be made. A rule: the same on every machine, in every epoch.

Each sample has a sequence of its own, a permutation of all selected samples that is keyed by the dataset's seed and by
the sample's id. Its replacement is the first one in it that is not itself in the ledger. The random numbers of a row
belong to its position, and stay what they are.

A row is right under a ledger exactly if the sample in it is not in that ledger: as the ledger grows, nothing before a
replacement in its sequence leaves the ledger, so the replacement changes only when it is found to be bad itself. So
rows that were made under a smaller ledger are those of the larger one as well, and need not be made again: one with
a sample that was found to be bad since cannot be among them, for it would have failed. (Unless the sample fails only at
times. Then rows with it that were made before stay as they are; those that are made later have its replacement.)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import stream_key
from loader_service.dataset.order import ShuffledOrder
from loader_service.dataset.selection.selection import Selection
from loader_service.protocol.errors import SampleError

AT_ONCE = 8  # candidates that are looked at together; the first one nearly always will do


class Replacing:
    """The rule, for one dataset and the samples that are in its ledger so far.

    >>> from loader_service.dataset.selection.selection import Everything
    >>> replacing = Replacing(Everything(10), seed=7)
    >>> replacing.grow([3])
    >>> replaced = replacing.apply(np.array([2, 3, 4]))
    >>> replaced[[0, 2]].tolist(), bool(replaced[1] == replacing.of(3) != 3)
    ([2, 4], True)
    """

    def __init__(self, pool: Selection, seed: int) -> None:
        self._pool, self._seed = pool, seed
        self._ids: set[int] = set()
        self._found: dict[int, int] = {}  # sample -> its replacement

    def __contains__(self, sample_id: int) -> bool:
        return sample_id in self._ids

    @property
    def ids(self) -> frozenset[int]:
        """The samples that are replaced."""
        return frozenset(self._ids)

    @property
    def first(self) -> int:
        """What stands where the first sample would."""
        return self.of(int(self._pool.fixed_ids(np.zeros(1, np.int64))[0]))

    def grow(self, ids: Iterable[int]) -> None:
        """Replace these samples, too."""
        self._ids.update(ids)
        self._found.clear()

    def apply(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `ids` with each one that is in the ledger replaced, of the same shape."""
        if not self._ids or self._ids.isdisjoint(ids.tolist()):
            return ids
        return np.asarray([self.of(sample_id) for sample_id in ids.tolist()], np.int64)

    def of(self, sample_id: int) -> int:
        """Return what stands where this sample would: itself, unless it is in the ledger."""
        if sample_id not in self._ids:
            return sample_id
        if sample_id not in self._found:
            self._found[sample_id] = self._search(sample_id)
        return self._found[sample_id]

    def _search(self, sample_id: int) -> int:
        size = self._pool.size
        sequence = ShuffledOrder(size, stream_key("replacement", self._seed, sample_id), epoch=0)
        for start in range(0, size, AT_ONCE):
            places = np.arange(start, min(start + AT_ONCE, size), dtype=np.int64)
            for candidate in self._pool.fixed_ids(sequence.ids(places)).tolist():
                if candidate not in self._ids:
                    return int(candidate)
        raise SampleError(f"none of the {size:,} samples can be made")
