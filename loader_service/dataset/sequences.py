"""Rows of different lengths, where they are: on a stage, each with room for the longest; or in memory, end to end.

sequences.c copies all rows of a batch in one call, where it was built. Elsewhere, bytes go from view to view: for rows
of some kilobytes, indexing arrays would take longer than copying does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.kernels import ADDRESS, SIZE, function_of
from loader_service.protocol.arena import address_of

NOTHING = np.empty(0, np.uint8)


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
        self._copy(out, starts * self._entry_nbytes)

    def pad(self, out: np.ndarray, value: float) -> None:
        """Copy row i to the front of `out[i]`, with `value` behind it.

        Args:
            out: Of shape (rows, as many entries as the longest has or more, *entry shape), contiguous.
        """
        padded = out.shape[1] * self._entry_nbytes
        blank = _blank(math.prod(out.shape[1:]), value, out.dtype)
        self._copy(out, np.arange(len(self), dtype=np.int64) * padded, padded, blank)

    def _copy(
        self, out: np.ndarray, places: NDArray[np.int64], padded: int = 0, blank: NDArray[np.uint8] = NOTHING
    ) -> None:
        """Copy row i to where byte `places[i]` of `out` is; behind it, as much of `blank` as makes it so long."""
        entries, written = _bytes(self.entries), _bytes(out)
        starts, nbytes = self.starts * self._entry_nbytes, self.lengths * self._entry_nbytes
        copy = kernel()
        if copy is None:
            _copy_singly(entries.data, starts, starts + nbytes, written.data, places, padded, blank.data)
            return
        rows = address_of(entries), entries.size, address_of(starts), address_of(nbytes), len(self)
        copied = copy(*rows, address_of(written), written.size, address_of(places), address_of(blank), padded)
        if copied < len(self):
            raise IndexError(f"row {copied}, of {self.lengths[copied]} entries, lies outside of those that there are")

    @property
    def _entry_nbytes(self) -> int:
        return self.entries.itemsize * math.prod(self.entries.shape[1:])


def _copy_singly(
    entries: memoryview,
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    out: memoryview,
    places: NDArray[np.int64],
    padded: int,
    blank: memoryview,
) -> None:
    """Do the same, row by row."""
    for start, stop, here in zip(starts.tolist(), stops.tolist(), places.tolist(), strict=True):
        end = here + stop - start
        out[here:end] = entries[start:stop]
        if end < here + padded:
            out[end : here + padded] = blank[: here + padded - end]


@lru_cache(maxsize=8)
def _blank(size: int, value: float, dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    return _bytes(np.full(size, value, dtype))


def _bytes(array: np.ndarray) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


@cache
def kernel() -> Any:
    """Return the function of sequences.c; None, if it was not built."""
    rows, out = (ADDRESS, SIZE, ADDRESS, ADDRESS, SIZE), (ADDRESS, SIZE, ADDRESS)
    return function_of(__file__, "sequences", "copy_rows", *rows, *out, ADDRESS, SIZE, returns=SIZE)
