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
from typing import Literal, NamedTuple

import cv2
import numpy as np

from loader_service.dataset.transforms.picture import clip
from loader_service.dataset.transforms.ranges import Pair

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in OpenCV, Pillow, torchvision and Keras
HueSpace = Literal["hsv", "yiq"]

_TO_YIQ = np.array([GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_ALONE = np.eye(3)
_ALL_GREY = np.tile(GREY, (3, 1))


class Adjustment(NamedTuple):
    """Factors, 1 for no change; and a share of a full turn, 0 for none."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    hue_space: HueSpace = "hsv"


def adjust(picture: np.ndarray, change: Adjustment, out: np.ndarray, bounds: Pair) -> None:
    """Write an adjusted picture of 1 or 3 channels into `out`, which may be the picture itself."""
    if change.hue and change.hue_space == "hsv":
        _adjust_hsv(picture, change, out, bounds)
        return
    scale, offset = _scale_and_offset(picture, change, bounds[0])
    if change.saturation == 1 and not change.hue:
        _scale(picture, scale, offset, out)
    else:
        cv2.transform(picture, _matrix(change, scale, offset), dst=out)
    clip(out, bounds)


def _scale_and_offset(picture: np.ndarray, change: Adjustment, black: float) -> Pair:
    """Return what brightness and contrast come to: value * scale + offset."""
    scale, offset = change.brightness, black * (1 - change.brightness)
    if change.contrast != 1:
        means = cv2.mean(picture)
        mean = means[0] if picture.shape[2] == 1 else float(GREY @ means[:3])
        offset = change.contrast * offset + (1 - change.contrast) * (scale * mean + offset)
        scale *= change.contrast
    return scale, offset


def _scale(picture: np.ndarray, scale: float, offset: float, out: np.ndarray) -> None:
    if picture.dtype != np.uint8:
        np.multiply(picture, np.float32(scale), out=out)
        if offset:
            np.add(out, np.float32(offset), out=out)
    elif offset >= 0:  # nothing can be below zero, so that the absolute value is the value
        cv2.convertScaleAbs(picture, dst=out, alpha=scale, beta=offset)
    else:
        cv2.addWeighted(picture, scale, picture, 0, offset, dst=out)


def _matrix(change: Adjustment, scale: float, offset: float) -> np.ndarray:
    """Return the 3 x 4 numbers of everything."""
    colours = change.saturation * _ALONE + (1 - change.saturation) * _ALL_GREY
    if change.hue:
        colours = _turned(change.hue) @ colours
    matrix = np.empty((3, 4))
    np.multiply(colours, scale, out=matrix[:, :3])
    matrix[:, 3] = offset
    return matrix


def _turned(hue: float) -> np.ndarray:
    """Return the matrix that turns hues about the grey axis, in the direction in which HSV counts them."""
    sine, cosine = math.sin(2 * math.pi * hue), math.cos(2 * math.pi * hue)
    turn = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    turned: np.ndarray = _FROM_YIQ @ turn @ _TO_YIQ
    return turned


def _adjust_hsv(picture: np.ndarray, change: Adjustment, out: np.ndarray, bounds: Pair) -> None:
    black = bounds[0]
    colours = picture.astype(np.float32)
    if change[:3] != (1, 1, 1):
        adjust(colours, change._replace(hue=0.0), colours, bounds)
    if black:
        np.subtract(colours, np.float32(black), out=colours)
    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV, dst=colours)
    hues = np.zeros(3 * hsv.shape[1], np.float32)  # for one line of pixels: much faster than every third number
    hues[::3] = 360 * (change.hue % 1)
    np.add(hsv.reshape(len(hsv), -1), hues, out=hsv.reshape(len(hsv), -1))
    if out.dtype == np.uint8:
        cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv), dst=out)
        return
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=out)
    if black:
        np.add(out, np.float32(black), out=out)
    clip(out, bounds)
