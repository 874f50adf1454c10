"""Brightness, contrast, saturation and hue of a picture, in one pass where that can be.

    x -> factor * (x - pivot) + pivot       pivot: black for brightness, the mean grey for contrast,
                                            the pixel's own grey for saturation

All three are affine and commute, since neither saturation nor a hue that is turned about the grey axis changes any
grey. So they are one matrix of 3 x 4 numbers, and values are cut off once, at the end. Between separate steps, as
torchvision's are, they are cut off each time: the same picture wherever nothing is.

Hue in HSV is no matrix. Pictures are made floats for it, which is faster than OpenCV's HSV of bytes, and exact.

Source: Pillow's ImageEnhance and torchvision's functional transforms, for the meaning of factors; Alvy Ray Smith,
"Color gamut transform pairs", 1978, for HSV; NVIDIA DALI's ColorTwist, for the matrix that turns hues.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np

from loader_service.dataset.transforms.picture import BYTE, clip
from loader_service.dataset.transforms.ranges import Pair
from loader_service.dataset.transforms.scratch import scratch

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # of grey: ITU-R BT.601, as in OpenCV, Pillow, torchvision and Keras
HueSpace = Literal["hsv", "yiq"]

_TO_YIQ = np.array([[RED, GREEN, BLUE], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def _basis() -> np.ndarray:
    """Return what the matrices of all adjustments are made of, each as twelve numbers: see `_matrix`."""
    grey = np.tile([RED, GREEN, BLUE], (3, 1))
    beside = _FROM_YIQ @ np.diag([0, 1, 1]) @ _TO_YIQ  # what a pixel has beside its grey
    turned = _FROM_YIQ @ np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]]) @ _TO_YIQ  # the same, turned by a quarter
    parts = [np.column_stack([part, np.zeros(3)]) for part in (grey, beside, turned)]
    offset = np.column_stack([np.zeros((3, 3)), np.ones(3)])
    return np.stack([*parts, offset]).reshape(4, 12)


_BASIS = _basis()
_UNCHANGED = np.eye(3)


def adjust(
    picture: np.ndarray,
    out: np.ndarray,
    bounds: Pair,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
    hue_space: HueSpace = "hsv",
) -> None:
    """Write an adjusted picture of 1 or 3 channels into `out`, which may be the picture itself.

    Args:
        bounds: Black and white.
        brightness: A factor, 1 for no change; so are contrast and saturation.
        hue: A share of a full turn.
    """
    if hue and hue_space == "hsv":
        _adjust_hsv(picture, out, bounds, brightness, contrast, saturation, hue)
        return
    scale, offset = brightness, bounds[0] * (1 - brightness)
    if contrast != 1:
        means = cv2.mean(picture)
        mean = means[0] if picture.shape[2] == 1 else RED * means[0] + GREEN * means[1] + BLUE * means[2]
        offset = contrast * offset + (1 - contrast) * (scale * mean + offset)
        scale *= contrast
    of_bytes, grey_alone = picture.dtype == BYTE, saturation == 1 and not hue
    if grey_alone and of_bytes and offset == 0:
        multiply(picture, scale, out)
    elif grey_alone and of_bytes and offset > 0:  # nothing is below zero, so that the absolute value is the value
        cv2.convertScaleAbs(picture, dst=out, alpha=scale, beta=offset)
    elif picture.shape[2] == 1 or (grey_alone and not of_bytes):
        cv2.addWeighted(picture, scale, picture, 0, offset, dst=out)
    else:
        cv2.transform(picture, _matrix(scale, offset, saturation, hue), dst=out)
    clip(out, bounds)


def multiply(picture: np.ndarray, factor: float, out: np.ndarray) -> None:
    """Write a picture of bytes, of 1 or 3 channels, times a factor of at least 0 into `out`."""
    if picture.shape[2] == 3:  # the same bytes as below, a fifth sooner
        cv2.transform(picture, _UNCHANGED * factor, dst=out)
    else:
        cv2.convertScaleAbs(picture, dst=out, alpha=factor)


def _matrix(scale: float, offset: float, saturation: float, hue: float) -> np.ndarray:
    """Return the 3 x 4 numbers of everything."""
    colour, angle = scale * saturation, 2 * math.pi * hue
    parts = np.array([scale, colour * math.cos(angle), colour * math.sin(angle), offset])
    matrix: np.ndarray = parts.dot(_BASIS).reshape(3, 4)
    return matrix


def _adjust_hsv(
    picture: np.ndarray,
    out: np.ndarray,
    bounds: Pair,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> None:
    black = bounds[0]
    if not brightness == contrast == saturation == 1:
        adjust(picture, out, bounds, brightness, contrast, saturation)
        picture = out
    colours = scratch("hsv", picture.shape, np.float32)
    np.copyto(colours, picture)
    if black:
        np.subtract(colours, np.float32(black), out=colours)
    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV, dst=colours)
    hues = np.zeros(3 * hsv.shape[1], np.float32)  # for one line of pixels: much faster than every third number
    hues[::3] = 360 * (hue % 1)
    lines = hsv.reshape(len(hsv), -1)
    np.add(lines, hues, out=lines)
    if out.dtype == BYTE:
        cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv), dst=out)
        return
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=out)
    if black:
        np.add(out, np.float32(black), out=out)
    clip(out, bounds)
