"""Pictures of bytes, scaled bilinearly by bilinear.c, where it was built; nothing is different then but the speed."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import cv2
import numpy as np

from loader_service.dataset.kernels import ADDRESS, INT, function_of
from loader_service.dataset.transforms.geometry.moves import UPRIGHT, Cut, Mirror, Scale
from loader_service.protocol.arena import address_of


def scaled_bilinearly(
    picture: np.ndarray, scale: Scale, inner: Cut | None, mirror: Mirror, out: np.ndarray | None
) -> np.ndarray | None:
    """Return a part of a picture in another size, mirrored; None, where this is not the way to do it.

    Args:
        inner: The part, in pixels of the new size; None for all of it.
        out: Where it is written, if that is given and fits.
    """
    scale_into = kernel()
    if scale_into is None or picture.dtype != np.uint8 or picture.ndim != 3:
        return None
    _, width, channels = picture.shape
    lines, *pixels = picture.strides
    if channels not in (3, 4) or pixels != [channels, 1] or lines < width * channels:
        return None
    part = Cut(0, 0, *scale) if inner is None else inner
    made = room_for(part, channels, out)
    return made if _scale(scale_into, picture, scale, part, mirror, made) else None


def room_for(part: Cut, channels: int, out: np.ndarray | None) -> np.ndarray:
    """Return where a part is written: `out`, if that is given and fits."""
    shape = (part.height, part.width, channels)
    if out is not None and out.shape == shape and out.dtype == np.uint8 and out.flags.c_contiguous:
        return out
    return np.empty(shape, np.uint8)


def _scale(scale_into: Any, picture: np.ndarray, scale: Scale, part: Cut, mirror: Mirror, out: np.ndarray) -> bool:
    """Say whether it could be done."""
    height, width, channels = picture.shape
    turned = mirror.left_right + 2 * mirror.top_bottom
    read = address_of(picture), height, width, picture.strides[0], channels
    return not scale_into(*read, *scale, *part, turned, address_of(out))


@cache
def kernel() -> Any:
    """Return the function of bilinear.c, if it was built, this processor can, and its pixels are OpenCV's."""
    read = ADDRESS, INT, INT, ctypes.c_ssize_t, INT
    found = function_of(__file__, "bilinear", "scale_bilinear", *read, *[INT] * 7, ADDRESS, returns=INT)
    if found is None:
        return None
    new, made = Scale(21, 27), np.empty((21, 27, 3), np.uint8)
    for shape in ((40, 50, 3), (9, 17, 3)):
        sample = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
        done = _scale(found, sample, new, Cut(0, 0, *new), UPRIGHT, made)
        if not done or not np.array_equal(made, cv2.resize(sample, (new.width, new.height))):
            return None
    return found
