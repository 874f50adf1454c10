"""Parts of JPEGs, decoded alone: jpeg_region.c, where it was built. Without it nothing is different but the speed.

Where a file can be entered, other than at its beginning, is remembered: see jpeg_points.h. A process that is forked off
one with the kernel, as workers are, shares what is remembered with all others; files are known by their bytes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from loader_service.dataset.kernels import ADDRESS, INT, KEY, SIZE, library_of
from loader_service.machine import all_memory
from loader_service.protocol.arena import address_of

WHOLE = "LOADER_SERVICE_WHOLE_JPEGS"  # in the environment: decode all of each, as if there were no kernel
MOST_POINTS, PART_OF_MEMORY = 2**31, 64  # bytes for what is remembered; taken as it fills: 1.3 KB a photo
HeightWidth = ctypes.c_int * 2
Part = tuple[int, int, int, int]  # top, left, height, width


class Kernel:
    """The functions of jpeg_region.c."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Take them out of the library."""
        self._size, self._region, self._scaled = library.jpeg_size, library.jpeg_region, library.jpeg_scaled
        self._size.argtypes = [ADDRESS, SIZE, ADDRESS]
        self._region.argtypes = [ADDRESS, SIZE, KEY, *[INT] * 6, ADDRESS]
        self._scaled.argtypes = [ADDRESS, SIZE, KEY, *[INT] * 14, ADDRESS]
        library.jpeg_remember.argtypes = [ADDRESS, SIZE]
        self.points = _shared_memory(min(MOST_POINTS, all_memory() // PART_OF_MEMORY))  #: what is remembered
        library.jpeg_remember(address_of(self.points), len(self.points))

    def size(self, encoded: bytes | memoryview) -> tuple[int, int] | None:
        """Return height and width of a JPEG; None, if it is of a kind of which only the whole can be decoded."""
        size = HeightWidth()
        refused = self._size(_memory(encoded), len(encoded), size)
        return None if refused else (size[0], size[1])

    def region(
        self, encoded: bytes | memoryview, shrink: int, top: int, left: int, out: np.ndarray, *, remember: bool = False
    ) -> np.ndarray | None:
        """Decode the part of a JPEG that fills `out`, (height, width, channels); of one scaled down by `shrink`.

        Args:
            remember: Whether other parts of the same file may be wanted later, which can then be had sooner.
        Returns:
            `out`; None, if only the whole can be decoded, or nothing: it is damaged as far as it was read.
        """
        height, width, channels = out.shape
        how = (channels, shrink, top, left, height, width)
        return None if self._region(*_file(encoded, remember), *how, address_of(out)) else out

    def scaled(
        self,
        encoded: bytes | memoryview,
        part: Part,
        target: tuple[int, ...],
        out: np.ndarray,
        *,
        remember: bool = False,
    ) -> np.ndarray | None:
        """Decode a part of a JPEG, and make of it what bilinear.c makes of pictures, in one go.

        Args:
            part: What is decoded, in pixels.
            target: What is made of it, as bilinear.h has it: how often it is halved first, down and across; height and
                width that the part is scaled to; top, left, height and width of what is shown of that; whether it is
                mirrored left-right, 1, or top-bottom, 2.
            out: Of shape (height, width, 3 or 4) of what is shown, contiguous.
            remember: As for `region`.
        Returns:
            `out`; None where `region` returns it, and where nothing can be scaled here.
        """
        how = (out.shape[2], *part, *target)
        return None if self._scaled(*_file(encoded, remember), *how, address_of(out)) else out


def _shared_memory(nbytes: int) -> NDArray[np.uint8]:
    """Return so many zeros, which forks share; none, where they are not to be had."""
    try:
        return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
    except (OSError, ValueError, OverflowError):  # where no more is promised than there is; or nothing is left
        return np.empty(0, np.uint8)


def _file(encoded: bytes | memoryview, remember: bool) -> tuple[bytes | int, int, int]:
    return _memory(encoded), len(encoded), xxh3_64_intdigest(encoded) if remember else 0


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
