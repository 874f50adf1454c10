"""Parts of JPEGs, decoded alone: jpeg_region.c, where it was built. Without it nothing is different but the speed."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg

WHOLE = "LOADER_SERVICE_WHOLE_JPEGS"  # in the environment: decode all of each, as if there were no kernel
SIZE = ctypes.c_int * 2
LIBRARY = Path(__file__).with_name("_jpeg_region.so")


class Kernel:
    """The functions of jpeg_region.c; they hold no lock while they work."""

    def __init__(self, library: Path) -> None:
        """Load it.

        Raises:
            OSError: If there is none, or no libjpeg that it was built for.
        """
        loaded = ctypes.CDLL(str(library))
        self._size, self._region = loaded.jpeg_size, loaded.jpeg_region
        address, integer, nbytes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self._size.argtypes = [address, nbytes, address]
        self._region.argtypes = [address, nbytes, *[integer] * 6, address]

    def size(self, encoded: bytes | memoryview) -> tuple[int, int] | None:
        """Return height and width of a JPEG; None, if it is of a kind of which only the whole can be decoded."""
        size = SIZE()
        refused = self._size(_memory(encoded), len(encoded), size)
        return None if refused else (size[0], size[1])

    def region(
        self, encoded: bytes | memoryview, shrink: int, top: int, left: int, out: np.ndarray
    ) -> np.ndarray | None:
        """Decode the part of a JPEG that fills `out`, (height, width, channels); of one scaled down by `shrink`.

        Returns:
            `out`; None, if only the whole can be decoded, or nothing: it is damaged as far as it was read.
        """
        height, width, channels = out.shape
        place = (top, left, height, width)
        return None if self._region(_memory(encoded), len(encoded), channels, shrink, *place, _address(out)) else out


def _memory(encoded: bytes | memoryview) -> bytes | int:
    return encoded if isinstance(encoded, bytes) else _address(np.frombuffer(encoded, np.uint8))


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


@cache
def kernel() -> Kernel | None:
    """Return what decodes parts, if it is wanted, was built, and makes the pixels that simplejpeg makes.

    Each of the two has a libjpeg of its own.
    """
    if os.environ.get(WHOLE):
        return None
    try:
        found = Kernel(LIBRARY)
    except OSError:
        return None
    sample = np.random.default_rng(7).integers(0, 256, (70, 90, 3), np.uint8)
    for subsampling in ("420", "440"):
        encoded = simplejpeg.encode_jpeg(sample, colorspace="RGB", colorsubsampling=subsampling)
        part = np.zeros((20, 40, 3), np.uint8)
        found.region(encoded, 1, 33, 32, part)
        if not np.array_equal(part, simplejpeg.decode_jpeg(encoded, "RGB")[33:53, 32:72]):
            return None
    return found
