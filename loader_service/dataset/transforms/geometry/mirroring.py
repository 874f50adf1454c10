"""Pictures mirrored: in place by OpenCV, into another place by windows.c, where it was built."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

from loader_service.dataset.kernels import ADDRESS, INT, SIZE, function_of
from loader_service.dataset.transforms.geometry.moves import Mirror
from loader_service.dataset.transforms.geometry.opencv import OPENCV_DTYPES, with_channels
from loader_service.protocol.arena import address_of

FIRST = np.zeros(1, np.int64)
PLACES = {  # as windows.c takes them
    Mirror(left_right, top_bottom): np.array([0, 0, left_right, top_bottom])
    for left_right in (False, True)
    for top_bottom in (False, True)
}


def flipped(value: np.ndarray, mirror: Mirror, out: np.ndarray | None) -> np.ndarray:
    """Return a mirrored picture; `out` may be the picture itself."""
    left_right, top_bottom = mirror
    if not left_right and not top_bottom:
        return value
    if out is not None and out is not value and _copied(value, mirror, out):
        return out
    if value.dtype in OPENCV_DTYPES and (value.ndim == 2 or value.shape[2] <= 4):
        code = -1 if left_right and top_bottom else 1 if left_right else 0
        return with_channels(cv2.flip(value, code, dst=out), value)
    mirrored = value[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
    return mirrored.copy() if value is out else mirrored


def _copied(value: np.ndarray, mirror: Mirror, out: np.ndarray) -> bool:
    """Write a mirrored picture, or a part of one, to where it is wanted; return whether that could be done here."""
    copy = kernel()
    if copy is None or value.shape != out.shape or value.dtype != out.dtype or value.ndim != 3:
        return False
    height, width, channels = value.shape
    pixel = channels * value.itemsize
    line, *inner = value.strides
    if inner != [pixel, value.itemsize] or line < width * pixel or line % pixel or not out.flags.c_contiguous:
        return False
    if np.may_share_memory(value, out):
        return False
    parts = (address_of(FIRST), address_of(PLACES[mirror]), 1, height, width)
    copy(address_of(value), height, line // pixel, pixel, *parts, address_of(out), False)
    return True


@cache
def kernel() -> Any:
    """Return the function of windows.c; None, if it was not built."""
    pictures, out = (ADDRESS, SIZE, SIZE, SIZE), (SIZE, SIZE, ADDRESS, INT)
    return function_of(__file__, "windows", "copy_windows", *pictures, ADDRESS, ADDRESS, SIZE, *out)
