"""Rows of different lengths, where they are: on a stage, each with room for the longest; or in memory, end to end.

Bytes go from view to view: for rows of some kilobytes, indexing arrays would take longer than copying does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sequences:
    """Row i has `lengths[i]` entries, which begin at `entries[starts[i]]`."""

    entries: np.ndarray  # (any number, *entry shape), contiguous, in the machine's byte order
    starts: NDArray[np.int64]  # (rows,)
    lengths: NDArray[np.int64]  # (rows,)

    @classmethod
    def on_stage(cls, stage: np.ndarray, lengths: NDArray[np.int64]) -> Sequences:
        """Take rows of a stage, of shape (rows, most, *entry shape); behind a row's end, anything may stand."""
        rows, most = stage.shape[:2]
        return cls(stage.reshape(rows * most, *stage.shape[2:]), np.arange(rows) * most, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    def write(self, out: np.ndarray, starts: NDArray[np.int64]) -> None:
        """Copy row i to `out[starts[i] : starts[i] + lengths[i]]`; `out` is contiguous, and of the entries' dtype."""
        source, target, entry = _bytes(self.entries), _bytes(out), self._entry_nbytes
        first, last = self.starts * entry, (self.starts + self.lengths) * entry
        at, end = starts * entry, (starts + self.lengths) * entry
        for begin, stop, here, there in zip(first.tolist(), last.tolist(), at.tolist(), end.tolist(), strict=True):
            target[here:there] = source[begin:stop]

    def pad(self, out: np.ndarray, value: float) -> None:
        """Copy row i to the front of `out[i]`, with `value` behind it.

        Args:
            out: Of shape (rows, as many entries as the longest has or more, *entry shape), contiguous.
        """
        length = out.shape[1]
        source, target, entry = _bytes(self.entries), _bytes(out), self._entry_nbytes
        blank = _blank(math.prod(out.shape[1:]), value, out.dtype)
        first, last = self.starts * entry, (self.starts + self.lengths) * entry
        here, row = 0, length * entry
        for begin, stop in zip(first.tolist(), last.tolist(), strict=True):
            there, following = here + stop - begin, here + row
            target[here:there] = source[begin:stop]
            target[there:following] = blank[: following - there]
            here = following

    @property
    def _entry_nbytes(self) -> int:
        return self.entries.itemsize * math.prod(self.entries.shape[1:])


@lru_cache(maxsize=8)
def _blank(size: int, value: float, dtype: np.dtype[Any]) -> memoryview:
    return _bytes(np.full(size, value, dtype))


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
