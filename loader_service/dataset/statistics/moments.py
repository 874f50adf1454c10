"""Rules without I/O: count, mean, sum of squares, range of some numbers, and how two such rows become one.

A *moments row* is float64 of shape (7, channels): COUNT of the finite numbers, their MEAN, the sum of their SQUARES
around that mean, the LEAST and the MOST of them; how many others were NAN or INFINITE. Rows of any parts of the data
merge into that of all of it. Nothing is ever squared before its mean is taken away: a small spread around a large
mean keeps its digits.

Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COUNT, MEAN, SQUARES, LEAST, MOST, NAN, INFINITE = range(7)
ROWS = 7
BLOCK = 1 << 14  # numbers that are looked at together: they stay in the cache from one pass to the next
MANY_BYTES = 1 << 12  # from so many on, it pays to count how often each of 256 values comes
MOST_COUNTED = 1 << 22  # pixels that are counted together: OpenCV returns counts as float32, exact up to 2^24
KINDS = "biuf"  # of dtypes that have a mean; bfloat16 does, too, and is of kind V

Moments = NDArray[np.float64]


def no_moments(channels: int) -> Moments:
    """Return the row of no numbers at all, which changes nothing that it is merged with."""
    row = np.zeros((ROWS, channels))
    row[LEAST], row[MOST] = np.inf, -np.inf
    return row


def moments_of(values: np.ndarray, channels: int) -> Moments:
    """Return the row of all numbers of an array, whose last axis has `channels` entries; of any array, where 1.

    >>> moments_of(np.asarray([[1, 10], [3, 10]]), 2)[[MEAN, SQUARES]].tolist()
    [[2.0, 10.0], [2.0, 0.0]]
    """
    numbers = values.reshape(-1, channels)
    if numbers.dtype == np.uint8 and channels <= 4 and numbers.size >= MANY_BYTES:
        step, moments_of_block = MOST_COUNTED, _moments_of_bytes
    else:
        step, moments_of_block = max(1, BLOCK // max(channels, 1)), _moments_of_block
    blocks = [moments_of_block(numbers[start : start + step]) for start in range(0, len(numbers), step)]
    return merged(np.stack(blocks)) if blocks else no_moments(channels)


def merged(rows: Moments) -> Moments:
    """Return the row of all numbers of which there are rows, of shape (rows, 7, channels)."""
    counts, means = rows[:, COUNT], rows[:, MEAN]
    made = np.empty(rows.shape[1:])
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the end of float64's range
        made[COUNT] = counts.sum(axis=0)
        made[MEAN] = (counts * means).sum(axis=0) / np.maximum(made[COUNT], 1)
        made[SQUARES] = (rows[:, SQUARES] + counts * (means - made[MEAN]) ** 2).sum(axis=0)
    made[LEAST] = rows[:, LEAST].min(axis=0)
    made[MOST] = rows[:, MOST].max(axis=0)
    made[NAN:] = rows[:, NAN:].sum(axis=0)
    return made


def _moments_of_block(numbers: np.ndarray) -> Moments:
    """Return the row of numbers of shape (n, channels)."""
    with np.errstate(over="ignore", invalid="ignore"):
        columns = np.ascontiguousarray(numbers.T, np.float64)  # along contiguous memory, NumPy sums in pairs
        sums = columns.sum(axis=1)
        if not np.isfinite(sums).all():
            return _moments_of_gaps(columns)
        row = np.zeros((ROWS, len(columns)))
        row[COUNT] = columns.shape[1]
        row[LEAST], row[MOST] = columns.min(axis=1), columns.max(axis=1)
        row[MEAN] = sums / columns.shape[1]
        columns = columns - row[MEAN][:, None]  # not in place: it may be the data itself
        row[SQUARES] = np.einsum("ij,ij->i", columns, columns)
    return row


def _moments_of_bytes(numbers: NDArray[np.uint8]) -> Moments:
    """Return the row of bytes of shape (n, 1 .. 4): six times as fast as that of other numbers, and exact."""
    pixels = np.ascontiguousarray(numbers)[:, None, :]
    channels = range(numbers.shape[1])
    counted = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]) for channel in channels]
    counts = np.asarray(counted, np.float64).reshape(len(channels), 256)
    row, values = np.zeros((ROWS, len(channels))), np.arange(256)
    row[COUNT] = len(numbers)
    row[MEAN] = counts @ values / len(numbers)
    row[SQUARES] = (counts * (values - row[MEAN][:, None]) ** 2).sum(axis=1)
    there = counts > 0
    row[LEAST], row[MOST] = there.argmax(axis=1), 255 - there[:, ::-1].argmax(axis=1)
    return row


def _moments_of_gaps(columns: NDArray[np.float64]) -> Moments:
    """Return the row of numbers some of which are NaN or infinite, or whose sum is: slower."""
    finite = np.isfinite(columns)
    row = np.zeros((ROWS, len(columns)))
    row[COUNT] = finite.sum(axis=1)
    row[LEAST] = np.where(finite, columns, np.inf).min(axis=1)
    row[MOST] = np.where(finite, columns, -np.inf).max(axis=1)
    row[MEAN] = np.where(finite, columns, 0).sum(axis=1) / np.maximum(row[COUNT], 1)
    row[SQUARES] = (np.where(finite, columns - row[MEAN][:, None], 0) ** 2).sum(axis=1)
    row[NAN] = np.isnan(columns).sum(axis=1)
    row[INFINITE] = np.isinf(columns).sum(axis=1)
    return row
