"""Pictures of bytes, scaled bilinearly by bilinear.c, where it was built; nothing is different then but the speed.

Without it, OpenCV scales them. It knows no sizes with a fraction, though, which odd sides have once they are halved:
those are left to NumPy, which does the same as bilinear.c in some milliseconds.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.kernels import ADDRESS, INT, function_of
from loader_service.dataset.transforms.geometry.mirroring import flipped
from loader_service.dataset.transforms.geometry.moves import Target
from loader_service.dataset.transforms.geometry.opencv import with_channels
from loader_service.protocol.arena import address_of

Halvings = tuple[int, int]  # how often lines are halved before all else, and columns; one that has no other is left out
UNHALVED: Halvings = (0, 0)
WEIGHT = 2048  # all of it


def scaled_bilinearly(
    picture: np.ndarray, target: Target, out: np.ndarray | None, halvings: Halvings = UNHALVED
) -> np.ndarray | None:
    """Return what a target shows of a picture; in `out`, if that is given and fits. None, if OpenCV is to do it."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
        return None
    height, width, channels = picture.shape
    lines, *pixels = picture.strides
    scale_into = kernel()
    if scale_into is not None and pixels == [channels, 1] and lines >= width * channels:
        made = room_for(target, channels, out)
        if _scale(scale_into, picture, target, made, halvings):
            return made
    size = height / (1 << halvings[0]), width / (1 << halvings[1])
    return None if all(side.is_integer() for side in size) else by_numpy(halved(picture, halvings), *size, target)


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


def by_numpy(picture: np.ndarray, height: float, width: float, target: Target) -> np.ndarray:
    """Return what a target shows of a picture that has these sizes, but lacks what is no whole pixel; as bilinear.h."""
    (new_height, new_width), part, mirror = target.scale, target.part, target.mirror
    lines, of_lines = _looked_up(part.top, part.height, height, new_height)
    columns, of_columns = _looked_up(part.left, part.width, width, new_width)
    last_line, last_column = picture.shape[0] - 1, picture.shape[1] - 1
    of_columns[:, (columns < 0) | (columns >= last_column)] = [[WEIGHT], [0]]  # only the edge: it has no neighbour
    one, other = columns.clip(0, last_column), (columns + 1).clip(0, last_column)
    made = np.full((part.height, part.width, picture.shape[2]), 2, np.int32)
    for line, of_line in zip((lines, lines + 1), of_lines, strict=True):
        looked_at = picture[line.clip(0, last_line)]
        across = looked_at.take(one, 1) * of_columns[0, :, None] + looked_at.take(other, 1) * of_columns[1, :, None]
        made += (across >> 4) * of_line[:, None, None] >> 16
    return flipped((made >> 2).clip(0, 255).astype(np.uint8), mirror, None)


def _looked_up(first: int, count: int, size: float, new_size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the places in the input that come before those in the output; what they and the next ones weigh."""
    exact = ((np.arange(first, first + count) + 0.5) * (1.0 / (new_size / size)) - 0.5).astype(np.float32)
    before = np.floor(exact)
    behind = exact - before
    weights = np.rint(np.stack([np.float32(1) - behind, behind]) * np.float32(WEIGHT))
    return before.astype(int), weights.astype(np.int32)


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
