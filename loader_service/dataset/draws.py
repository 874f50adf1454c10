"""Random numbers as a pure function of (seed, epoch, position): nothing else enters, not even the neighbours.

A counter goes through SplitMix64's finalizer, for a whole task at once. NumPy's own generators are used for
user functions only: their streams may change between NumPy releases (NEP 19), ours may not. draws.c does the same in
one call, where it was built.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.kernels import ADDRESS, KEY, SIZE, function_of
from loader_service.protocol.arena import address_of

MOST_KEYS = 1000  # that are remembered
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_PLAIN = int(_GAMMA), int(_MIX_1), int(_MIX_2)
_BITS = (1 << 64) - 1


def stream_key(*parts: int | str) -> int:
    """Return 64 bits that name one stream of random numbers.

    >>> stream_key("draws", 7, 0) != stream_key("draws", 7, 1)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


class DrawKeys:
    """The keys of a dataset's random numbers: one for each epoch and each step that draws."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[int, int], int] = {}

    def of(self, epoch: int, step: int) -> int:
        """Return the key of a step, by its number, in an epoch."""
        key = self._known.get((epoch, step))
        if key is None:
            if len(self._known) > MOST_KEYS:
                self._known.clear()
            key = self._known[epoch, step] = stream_key("draws", self._seed, epoch, step)
        return key


def mix(counters: NDArray[np.uint64], key: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 well-mixed bits for each counter, of the same shape; `key` is that of all of them, or one for each."""
    with np.errstate(over="ignore"):
        z = counters * _GAMMA + np.asarray(key, np.uint64)
        z ^= z >> np.uint64(30)
        z *= _MIX_1
        z ^= z >> np.uint64(27)
        z *= _MIX_2
        z ^= z >> np.uint64(31)
        return z


def uniforms(key: int | NDArray[np.uint64], positions: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return `count` numbers in [0, 1) for each position, of shape (len(positions), count).

    A row depends on `key` and its position alone, so it does not matter which rows are drawn together. Rows may have
    keys of their own, of shape (len(positions), 1).

    >>> whole = uniforms(1, np.arange(4), 3)
    >>> bool((whole[2:3] == uniforms(1, np.arange(2, 3), 3)).all())
    True
    """
    draw = kernel() if isinstance(key, int) else None
    if draw is not None:
        positions = np.ascontiguousarray(positions)
        out = np.empty((len(positions), count))
        draw(key, address_of(positions), len(positions), count, address_of(out))
        return out
    first = positions.astype(np.uint64)[:, None] * np.uint64(count)
    counters = np.add(first, np.arange(1, count + 1, dtype=np.uint64), dtype=np.uint64)
    return unit(mix(counters, key))


def uniforms_of_steps(
    counts: Mapping[int, int], keys: DrawKeys, epoch: int, positions: NDArray[np.int64]
) -> dict[int, NDArray[np.float64]]:
    """Return the random numbers of steps, by their numbers, given how many each takes for one position of an epoch."""
    return {step: uniforms(keys.of(epoch, step), positions, count) for step, count in counts.items()}


def unit(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each 64 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))


def row_of_uniforms(key: int, position: int, count: int) -> list[float]:
    """Return the row that `uniforms` has for one position: a few numbers come sooner without NumPy.

    >>> row_of_uniforms(1, 7, 3) == uniforms(1, np.arange(7, 8), 3)[0].tolist()
    True
    """
    return [(_mixed(position * count + number, key) >> 11) * (1.0 / (1 << 53)) for number in range(1, count + 1)]


def _mixed(counter: int, key: int) -> int:
    """Return what `mix` has for one counter."""
    gamma, first, second = _PLAIN
    z = (counter * gamma + key) & _BITS
    z = ((z ^ z >> 30) * first) & _BITS
    z = ((z ^ z >> 27) * second) & _BITS
    return z ^ z >> 31


@cache
def kernel() -> Any:
    """Return the function of draws.c; None, if it was not built."""
    return function_of(__file__, "draws", "uniforms", KEY, ADDRESS, SIZE, SIZE, ADDRESS)
