"""(size, seed, epoch) and a position -> a sample id, and back; in O(1) memory for any size.

A Feistel network over a x b numbers, where a and b are near the square root of the size and a * b exceeds it by
less than b: a position is a digit pair, each round adds a mixed function of one digit to the other, so each round
can be undone, and the whole is a bijection of 0 .. a*b - 1. A result outside 0 .. size - 1 goes through again until
it is inside ("cycle walking"), which keeps it a bijection of the size, and is rare because a * b is close to it.

Source: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002 (generalized Feistel, cycle walking).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import mix, stream_key

Step = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]
ROUNDS = 8  # per digit pair; four on each digit


@dataclass(frozen=True)
class ShuffledOrder:
    """The order of one epoch: a bijection of 0 .. size - 1.

    >>> order = ShuffledOrder(5, seed=7, epoch=0)
    >>> sorted(order.ids(np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """

    size: int
    seed: int
    epoch: int

    @cached_property
    def _digits(self) -> tuple[np.uint64, np.uint64]:
        low = max(2, math.isqrt(self.size))  # one digit value would leave only rotations
        return np.uint64(-(-self.size // low)), np.uint64(low)

    @cached_property
    def _keys(self) -> list[int]:
        return [stream_key("order", self.seed, self.epoch, number) for number in range(ROUNDS)]

    def ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample ids at `positions` (each in 0 .. size - 1), of the same shape."""
        return self._walk(positions, self._forward)

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each sample id stands in this epoch: the inverse of `ids`."""
        return self._walk(ids, self._backward)

    def _walk(self, numbers: NDArray[np.int64], step: Step) -> NDArray[np.int64]:
        moved = step(numbers.astype(np.uint64))
        size = np.uint64(self.size)
        while (outside := moved >= size).any():
            moved[outside] = step(moved[outside])
        walked: NDArray[np.int64] = moved.astype(np.int64)
        return walked

    def _forward(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        high_size, low_size = self._digits
        high, low = numbers // low_size, numbers % low_size
        for number, key in enumerate(self._keys):
            if number % 2:
                low = (low + mix(high, key) % low_size) % low_size
            else:
                high = (high + mix(low, key) % high_size) % high_size
        return high * low_size + low

    def _backward(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        high_size, low_size = self._digits
        high, low = numbers // low_size, numbers % low_size
        for number, key in reversed(list(enumerate(self._keys))):
            if number % 2:
                low = (low + low_size - mix(high, key) % low_size) % low_size
            else:
                high = (high + high_size - mix(low, key) % high_size) % high_size
        return high * low_size + low


@dataclass(frozen=True)
class GivenOrder:
    """The order of the source itself: position i is sample i, in every epoch."""

    size: int

    def ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions."""
        return positions

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids."""
        return ids


BLOCK = 4096  # positions permuted at once: the cost of a call is spread over many rows


class OrderCache:
    """The order of a whole run, in blocks: neighbouring tasks ask for neighbouring positions."""

    def __init__(self, size: int, seed: int | None) -> None:
        self._size, self._seed = size, seed
        self._blocks: dict[tuple[int, int], NDArray[np.int64]] = {}

    def ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the sample ids at positions start .. stop - 1 of an epoch."""
        if self._seed is None:
            return np.arange(start, stop, dtype=np.int64)
        parts = [
            self._block(epoch, number)[max(start - number * BLOCK, 0) : stop - number * BLOCK]
            for number in range(start // BLOCK, -(-stop // BLOCK))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        block = self._blocks.get((epoch, number))
        if block is None:
            positions = np.arange(number * BLOCK, min((number + 1) * BLOCK, self._size), dtype=np.int64)
            assert self._seed is not None, "only a shuffled order has blocks"
            block = ShuffledOrder(self._size, self._seed, epoch).ids(positions)
            while len(self._blocks) >= 8:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[epoch, number] = block
        return block
