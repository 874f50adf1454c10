"""(size, seed, epoch) and a position -> a sample id, and back; in O(1) memory for any size.

A Feistel network over a x b numbers, where a and b are near the square root of the size and a * b exceeds it by
less than b: a position is a digit pair, each round adds a mixed function of one digit to the other, so each round
can be undone, and the whole is a bijection of 0 .. a*b - 1. A result outside 0 .. size - 1 goes through again until
it is inside ("cycle walking"), which keeps it a bijection of the size, and is rare because a * b is close to it.

Digits have 32 bits: processors do several times as many of these at once as of 64, and small rows take no longer to
be gathered than their order takes to be found. order.c does the same in one call, where it was built.

Source: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002 (generalized Feistel, cycle walking); Wellons,
"Prospecting for hash functions", 2018, for the constants that mix 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import mix, stream_key
from loader_service.dataset.kernels import ADDRESS, KEY, SIZE, UINT, function_of
from loader_service.protocol.arena import address_of

Digits = NDArray[np.uint32]
RoundKey = tuple[Any, Any]  # 64 bits as two times 32: of all numbers, or arrays with those of each
Step = Callable[[NDArray[np.uint64]], NDArray[np.uint64]]
Select = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
Numbers = Callable[[int, NDArray[np.int64]], NDArray[np.int64]]
ROUNDS = 8  # per digit pair; four on each digit
_SHIFT_15, _SHIFT_16 = np.uint32(15), np.uint32(16)
_MIX_1, _MIX_2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


@dataclass(frozen=True)
class _Bijection:
    """One of 0 .. size - 1, for sizes up to 2^62."""

    size: int

    @cached_property
    def _digits(self) -> tuple[np.uint64, np.uint64]:
        low = max(2, math.isqrt(self.size))  # one digit value would leave only rotations
        return np.uint64(-(-self.size // low)), np.uint64(low)

    @property
    def _wide_keys(self) -> NDArray[np.uint64]:
        """The key of each round."""
        raise NotImplementedError

    @property
    def _keys(self) -> list[RoundKey]:
        return [(first, second) for first, second in _packed_keys(self)]

    def ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample ids at `positions` (each in 0 .. size - 1), of the same shape."""
        walk = kernel()
        if walk is None:
            return self.walked(positions)
        positions = np.ascontiguousarray(positions, np.int64)
        found = np.empty_like(positions)
        high, low = (int(digit) for digit in self._digits)
        keys = address_of(_packed_keys(self))
        walk(address_of(positions), positions.size, self.size, high, low, keys, address_of(found))
        return found

    def walked(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the same without order.c."""
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
        return _forward(numbers, *self._digits, self._keys)

    def _backward(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        high, low, high_size, low_size = _digits(numbers, *self._digits)
        for number, key in reversed(list(enumerate(self._keys))):
            if number % 2:
                low = _subtract(low, _scrambled(high, key), low_size)
            else:
                high = _subtract(high, _scrambled(low, key), high_size)
        return high * self._digits[1] + low


@lru_cache(maxsize=256)
def _packed_keys(order: _Bijection) -> Digits:
    """Return the keys of all rounds: to find them takes as long as to permute a block."""
    return np.stack(_halves(order._wide_keys), axis=1)


@dataclass(frozen=True)
class ShuffledOrder(_Bijection):
    """The order of one epoch.

    >>> order = ShuffledOrder(5, seed=7, epoch=0)
    >>> sorted(order.ids(np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """

    seed: int
    epoch: int

    @property
    def _wide_keys(self) -> NDArray[np.uint64]:
        return np.array([stream_key("order", self.seed, self.epoch, number) for number in range(ROUNDS)], np.uint64)


@dataclass(frozen=True)
class GroupOrder(_Bijection):
    """The order of one group: that in which `shuffled` puts it."""

    key: int

    @property
    def _wide_keys(self) -> NDArray[np.uint64]:
        return mix(np.arange(ROUNDS, dtype=np.uint64), self.key)


@cache
def kernel() -> Any:
    """Return the function of order.c; None, if it was not built."""
    return function_of(__file__, "order", "ids_at", ADDRESS, SIZE, KEY, UINT, UINT, ADDRESS, ADDRESS)


def _forward(
    numbers: NDArray[np.uint64], high_size: Any, low_size: Any, keys: Sequence[RoundKey]
) -> NDArray[np.uint64]:
    """Do all rounds; sizes and keys are those of all numbers, or arrays with those of each."""
    high, low, most_high, most_low = _digits(numbers, high_size, low_size)
    for number, key in enumerate(keys):
        if number % 2:
            low = _add(low, _scrambled(high, key), most_low)
        else:
            high = _add(high, _scrambled(low, key), most_high)
    moved: NDArray[np.uint64] = high * low_size + low
    return moved


def _digits(numbers: NDArray[np.uint64], high_size: Any, low_size: Any) -> tuple[Digits, Digits, Any, Any]:
    """Return the high and the low digit of numbers, and how many of each there are, all in 32 bits."""
    high = numbers // low_size
    low = numbers - high * low_size
    return high.astype(np.uint32), low.astype(np.uint32), high_size.astype(np.uint32), low_size.astype(np.uint32)


def _halves(key: NDArray[np.uint64]) -> RoundKey:
    return key.astype(np.uint32)[()], (key >> np.uint64(32)).astype(np.uint32)[()]


def _scrambled(digits: Digits, key: RoundKey) -> Digits:
    """Return 32 well-mixed bits for each digit."""
    with np.errstate(over="ignore"):  # numbers that are arrays of no axis wrap around like all others
        z: Digits = digits + key[0]
        z ^= z >> _SHIFT_16
        z *= _MIX_1
        z ^= z >> _SHIFT_15
        z += key[1]
        z *= _MIX_2
        z ^= z >> _SHIFT_16
        return z


def _add(digits: Digits, others: Digits, size: Any) -> Digits:
    """Return (digits + others) % size; digits are below size, others are not kept."""
    total = digits + _remainder(others, size)
    least: Digits = np.minimum(total, total - size)  # what would be below zero is far above
    return least


def _subtract(digits: Digits, others: Digits, size: Any) -> Digits:
    """Return (digits - others) % size; the inverse of `_add`."""
    rest = digits - _remainder(others, size)
    least: Digits = np.minimum(rest, rest + size)
    return least


def _remainder(numbers: Digits, size: Any) -> Digits:
    """Return `numbers % size` in half the time: NumPy divides many numbers by one without dividing."""
    quotients = numbers // size
    quotients *= size
    numbers -= quotients
    return numbers


def shuffled(places: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Move each place within a group of its own: by the bijection of 0 .. size - 1 that its key names.

    Args:
        places: Each in 0 .. size - 1.
        sizes: Those of the groups, of the same shape; `keys` likewise.

    >>> groups = np.repeat(np.arange(1, 4), [1, 2, 3])  # three groups, of 1, 2 and 3 places
    >>> moved = shuffled(np.array([0, 0, 1, 0, 1, 2]), groups, groups.astype(np.uint64))
    >>> [sorted(moved[groups == size].tolist()) for size in (1, 2, 3)]
    [[0], [0, 1], [0, 1, 2]]
    """
    size = sizes.astype(np.uint64)
    low_size = np.maximum(np.sqrt(size).astype(np.uint64), np.uint64(2))
    high_size = (size + low_size - np.uint64(1)) // low_size
    rounds = [_halves(mix(np.full(keys.shape, number, np.uint64), keys)) for number in range(ROUNDS)]
    moved = _forward(places.astype(np.uint64), high_size, low_size, rounds)
    while (outside := moved >= size).any():
        own = [(first[outside], second[outside]) for first, second in rounds]
        moved[outside] = _forward(moved[outside], high_size[outside], low_size[outside], own)
    return moved.astype(np.int64)


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
    """Which samples stand where in a whole run, in blocks: neighbouring tasks ask for neighbouring positions."""

    def __init__(
        self, size: int, seed: int | None, select: Select | None = None, numbers: Numbers | None = None
    ) -> None:
        """Order samples.

        Args:
            size: Positions of an epoch.
            seed: None for the order of the source itself.
            select: From numbers in 0 .. size - 1, and epochs, to sample ids; None where these are the numbers.
            numbers: From an epoch, and positions, to numbers: an order of another kind.
        """
        self._size, self._seed, self._select, self._numbers = size, seed, select, numbers
        self._blocks: dict[tuple[int, int], NDArray[np.int64]] = {}

    def ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the sample ids at positions start .. stop - 1 of an epoch."""
        if self._seed is None and self._select is None and self._numbers is None:
            return np.arange(start, stop, dtype=np.int64)
        parts = [
            self._block(epoch, number)[max(start - number * BLOCK, 0) : stop - number * BLOCK]
            for number in range(start // BLOCK, -(-stop // BLOCK))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _block(self, epoch: int, number: int) -> NDArray[np.int64]:
        block = self._blocks.get((epoch, number))
        if block is None:
            block = np.arange(number * BLOCK, min((number + 1) * BLOCK, self._size), dtype=np.int64)
            if self._numbers is not None:
                block = self._numbers(epoch, block)
            elif self._seed is not None:
                block = ShuffledOrder(self._size, self._seed, epoch).ids(block)
            if self._select is not None:
                block = self._select(block, np.full_like(block, epoch))
            while len(self._blocks) >= 8:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[epoch, number] = block
        return block
