"""Memory for what is needed in between, kept from sample to sample: fresh memory costs more than the work done in it.

The first touch of a page takes about a microsecond, and malloc gives large arrays back to the system when they die.
"""

from __future__ import annotations

import math
import threading

import numpy as np

MOST_KEPT = 1 << 23  # bytes of one array, in each thread; what is larger is made anew

_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Return an uninitialised array, until the next call with this name; each use has a name of its own.

    >>> scratch("doctest", (2, 3), np.float32).shape
    (2, 3)
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes > MOST_KEPT:
        return np.empty(shape, dtype)
    memory = getattr(_kept, name, None)
    if memory is None or memory.nbytes < nbytes:
        memory = np.empty(nbytes, np.uint8)
        setattr(_kept, name, memory)
    array: np.ndarray = memory[:nbytes].view(dtype).reshape(shape)
    return array
