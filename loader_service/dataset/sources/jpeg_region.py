"""Parts of JPEGs, decoded alone: jpeg_region.c, where it was built. Without it nothing is different but the speed."""

from __future__ import annotations

import ctypes
import os
from functools import cache

import numpy as np
import simplejpeg

from loader_service.dataset.kernels import ADDRESS, INT, SIZE, library_of
from loader_service.protocol.arena import address_of

WHOLE = "LOADER_SERVICE_WHOLE_JPEGS"  # in the environment: decode all of each, as if there were no kernel
HeightWidth = ctypes.c_int * 2


class Kernel:
    """The functions of jpeg_region.c."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Take them out of the library."""
        self._size, self._region = library.jpeg_size, library.jpeg_region
        self._size.argtypes = [ADDRESS, SIZE, ADDRESS]
        self._region.argtypes = [ADDRESS, SIZE, *[INT] * 6, ADDRESS]

    def size(self, encoded: bytes | memoryview) -> tuple[int, int] | None:
        """Return height and width of a JPEG; None, if it is of a kind of which only the whole can be decoded."""
        size = HeightWidth()
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
        return None if self._region(_memory(encoded), len(encoded), channels, shrink, *place, address_of(out)) else out


def _memory(encoded: bytes | memoryview) -> bytes | int:
    return encoded if isinstance(encoded, bytes) else address_of(np.frombuffer(encoded, np.uint8))


@cache
def kernel() -> Kernel | None:
    """Return what decodes parts, if it is wanted, was built, and makes the pixels that simplejpeg makes.

    Each of the two has a libjpeg of its own.
    """
    if os.environ.get(WHOLE):
        return None
    library = library_of(__file__, "jpeg_region")
    if library is None:
        return None
    found = Kernel(library)
    sample = np.random.default_rng(7).integers(0, 256, (70, 90, 3), np.uint8)
    for subsampling in ("420", "440"):
        encoded = simplejpeg.encode_jpeg(sample, colorspace="RGB", colorsubsampling=subsampling)
        part = np.zeros((20, 40, 3), np.uint8)
        found.region(encoded, 1, 33, 32, part)
        if not np.array_equal(part, simplejpeg.decode_jpeg(encoded, "RGB")[33:53, 32:72]):
            return None
    return found
