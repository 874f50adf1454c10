"""Pictures of bytes, scaled bilinearly by bilinear.c, where it was built; nothing is different then but the speed."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import cv2
import numpy as np

from loader_service.dataset.kernels import ADDRESS, INT, function_of
from loader_service.dataset.transforms.geometry.moves import Target
from loader_service.dataset.transforms.geometry.opencv import with_channels
from loader_service.protocol.arena import address_of

Halvings = tuple[int, int]  # how often lines are halved before all else, and columns: each number is even until then
UNHALVED: Halvings = (0, 0)


def scaled_bilinearly(
    picture: np.ndarray, target: Target, out: np.ndarray | None, halvings: Halvings = UNHALVED
) -> np.ndarray | None:
    """Return what a target shows of a picture; in `out`, if that is given and fits. None, if this is not the way."""
    scale_into = kernel()
    if scale_into is None or picture.dtype != np.uint8 or picture.ndim != 3:
        return None
    _, width, channels = picture.shape
    lines, *pixels = picture.strides
    if channels not in (3, 4) or pixels != [channels, 1] or lines < width * channels:
        return None
    made = room_for(target, channels, out)
    return made if _scale(scale_into, picture, target, made, halvings) else None


def room_for(target: Target, channels: int, out: np.ndarray | None) -> np.ndarray:
    """Return where a target is written: `out`, if that is given and fits."""
    shape = (target.part.height, target.part.width, channels)
    if out is not None and out.shape == shape and out.dtype == np.uint8 and out.flags.c_contiguous:
        return out
    return np.empty(shape, np.uint8)


def _scale(scale_into: Any, picture: np.ndarray, target: Target, out: np.ndarray, halvings: Halvings) -> bool:
    """Say whether it could be done."""
    height, width, channels = picture.shape
    read = address_of(picture), height, width, picture.strides[0], channels
    return not scale_into(*read, *halvings, *target.numbers, address_of(out))


@cache
def kernel() -> Any:
    """Return the function of bilinear.c, if it was built, this processor can, and its pixels are OpenCV's."""
    read = ADDRESS, INT, INT, ctypes.c_ssize_t, INT
    found = function_of(__file__, "bilinear", "scale_bilinear", *read, *[INT] * 9, ADDRESS, returns=INT)
    if found is None:
        return None
    made = np.empty((21, 27, 3), np.uint8)
    for shape, halvings in (
        ((40, 50, 3), UNHALVED),
        ((9, 17, 3), UNHALVED),
        ((80, 60, 3), (1, 1)),
        ((30, 120, 3), (0, 2)),
    ):
        sample = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
        expected = cv2.resize(halved(sample, halvings), (27, 21))
        if not _scale(found, sample, Target.whole(21, 27), made, halvings) or not np.array_equal(made, expected):
            return None
    return found


def halved(picture: np.ndarray, halvings: Halvings) -> np.ndarray:
    """Return a picture halved by OpenCV: downwards and across at once, as long as both are to be done."""
    down, across = halvings
    for step in range(max(halvings)):
        height, width = picture.shape[:2]
        size = (width // 2 if step < across else width, height // 2 if step < down else height)
        even = picture[: size[1] * 2 if step < down else height, : size[0] * 2 if step < across else width]
        picture = with_channels(cv2.resize(even, size, interpolation=cv2.INTER_LINEAR), picture)
    return picture
