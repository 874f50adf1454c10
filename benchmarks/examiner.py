"""Whether an arm does the work it is measured for: the first epoch of every arm is looked at while it warms up.

Each batch: two arrays of the right dtype and shape, whose rows hold what the work says of them. Over the epoch: no
sample twice, none missing but for those of a last short batch, in a new order where the work is shuffled and in the
order of the source where it is not. An arm that fails is not measured. Where the warm-up is over before the epoch is,
none can be missed, but all else is looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.work import Work


class Examiner:
    """Looks at batches until the first epoch has ended."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._ids: list[np.ndarray] = []
        self._over = False

    def saw(self, batch: tuple[Any, ...]) -> None:
        if self._over:
            return
        assert len(batch) == 2, f"a batch is {len(batch)} arrays, expected x and y"
        for name, array, (shape, dtype) in zip("xy", batch, (self._work.x, self._work.y), strict=True):
            told = f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} (rows, {shape})"
            alike = len(array.shape) == len(shape) + 1 and all(
                size in (None, got) for got, size in zip(array.shape[1:], shape, strict=True)
            )
            assert array.dtype == dtype and alike, told
            assert 0 < len(array) <= self._work.rows, f"{name} has {len(array)} rows, expected {self._work.rows}"
        ids = np.array(self._work.identities(*batch))
        self._work.examine(sum(map(len, self._ids)), ids, *batch)
        self._ids.append(ids)

    def epoch_ended(self) -> None:
        if not self._over:
            self._conclude(whole=True)

    def warm_up_ended(self) -> None:
        if not self._over and self._ids:
            self._conclude(whole=False)

    def _conclude(self, *, whole: bool) -> None:
        self._over = True
        seen = np.concatenate(self._ids)
        samples, rows = self._work.samples, self._work.rows
        if whole:
            assert samples - rows < len(seen) <= samples, f"an epoch had {len(seen)} samples, expected {samples}"
        every = self._work.all_identities()
        often, expected = (np.bincount(ids, minlength=int(every.max()) + 1) for ids in (seen, every))
        assert len(often) == len(expected) and (often <= expected).all(), "a sample came twice, or was made up"
        in_order = np.array_equal(seen, every[: len(seen)])
        assert in_order != self._work.shuffled, "not shuffled" if in_order else "not in the order of the source"
