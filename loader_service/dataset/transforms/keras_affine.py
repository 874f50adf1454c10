"""The affine that Keras' `apply_affine_transform` makes of its parameters, done by one call of OpenCV.

A pixel of the new picture is looked up in the old one, at

    o + R(theta) (t + S(shear) Z(zx, zy) (p - o))        p = (column, row), t = (tx, ty)

Two things there are not what one would expect, and are kept, so that pictures are those of Keras: `tx`, which is drawn
from the height, moves columns, and `ty`, drawn from the width, moves rows; and o, which is (height / 2 - 1/2,
width / 2 - 1/2), is the picture's centre only where that is square.

Source: keras/src/legacy/preprocessing/image.py of Keras 3; the swap is keras-team/keras issue 17398.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.transforms.geometry.drawing import (
    WARPING,
    FillMode,
    Interpolation,
    Look,
    by_matrix,
)
from loader_service.dataset.transforms.geometry.mirroring import flipped
from loader_service.dataset.transforms.geometry.moves import Mirror
from loader_service.dataset.transforms.geometry.opencv import with_channels

ORDERS: dict[int, Interpolation] = {0: "nearest", 1: "bilinear"}


class Affine(NamedTuple):
    """What Keras draws for one picture, by its names: degrees, pixels, factors."""

    theta: float = 0.0
    tx: float = 0.0
    ty: float = 0.0
    shear: float = 0.0
    zx: float = 1.0
    zy: float = 1.0
    flip_horizontal: bool = False
    flip_vertical: bool = False

    @property
    def warps(self) -> bool:
        """Whether more is to be done than to mirror."""
        return self[:6] != (0, 0, 0, 0, 1, 1)

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Return (2, 3): (column, row, 1) of the new picture -> (column, row) of the old one."""
        theta, shear = math.radians(self.theta), math.radians(self.shear)
        cos, sin = math.cos(theta), math.sin(theta)
        a, b = cos * self.zx, -(cos * math.sin(shear) + sin * math.cos(shear)) * self.zy
        d, e = sin * self.zx, (cos * math.cos(shear) - sin * math.sin(shear)) * self.zy
        x, y = height / 2 - 0.5, width / 2 - 0.5
        c = x + cos * self.tx - sin * self.ty - a * x - b * y
        f = y + sin * self.tx + cos * self.ty - d * x - e * y
        if self.flip_horizontal:  # Keras mirrors what it has warped
            a, c, d, f = -a, c + a * (width - 1), -d, f + d * (width - 1)
        if self.flip_vertical:
            b, c, e, f = -b, c + b * (height - 1), -e, f + e * (height - 1)
        return np.array([[a, b, c], [d, e, f]])


def transformed(
    picture: np.ndarray, affine: Affine, fill_mode: FillMode, cval: float, order: int, out: np.ndarray | None
) -> np.ndarray:
    """Return a picture (height, width, channels), warped and mirrored; itself, if nothing is to be done.

    Within interpolation error it is Keras' picture, but for one thing: with "constant", a pixel that is looked up less
    than one pixel outside lies between the edge and `cval`, where scipy cuts sharply.
    """
    height, width = picture.shape[:2]
    if not affine.warps:
        return flipped(picture, Mirror(affine.flip_horizontal, affine.flip_vertical), out)
    matrix = affine.matrix(height, width)
    if fill_mode == "wrap":
        return _wrapped(picture, matrix, order, out)
    look = Look(ORDERS[order], fill_mode=fill_mode, fill_value=cval)
    (a, b, c), (d, e, f) = matrix.tolist()
    return by_matrix(picture, (a, b, c, d, e, f, 0.0, 0.0, 1.0), height, width, look, out)


def _wrapped(picture: np.ndarray, matrix: NDArray[np.float64], order: int, out: np.ndarray | None) -> np.ndarray:
    """Look pixels up one by one: scipy's "wrap" comes again after n - 1 pixels, and OpenCV's after n."""
    height, width = picture.shape[:2]
    columns, rows = np.arange(width), np.arange(height)[:, None]
    (a, b, c), (d, e, f) = matrix.tolist()
    maps = _inside(a * columns + (b * rows + c), width), _inside(d * columns + (e * rows + f), height)
    made = cv2.remap(picture, *maps, WARPING[ORDERS[order]], dst=out, borderMode=cv2.BORDER_REPLICATE)
    return with_channels(made, picture)


def _inside(places: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    last = size - 1
    if not last:
        return np.zeros(places.shape, np.float32)
    outside = (places < 0) | (places > last)
    if outside.any():
        places = np.where(outside, places - last * np.floor(places * (1 / last)), places)  # faster than %
    return places.astype(np.float32)
