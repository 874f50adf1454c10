"""Where the pixels of a step's output come from: crops, mirrors, scales, matrices, shifts of each pixel.

A place is (x, y): x to the right, y downwards, in pixels. Whole numbers are the centres of pixels: (0, 0) is that of
the first one, whose edges are at -0.5. A matrix leads from a place in the output to the place in the input that it
shows, as `cv2.warpAffine` with WARP_INVERSE_MAP takes it; it is nine numbers, row by row. In plain tuples, since
NumPy takes longer to be called than these few products take.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = tuple[float, float, float, float, float, float, float, float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class Cut(NamedTuple):
    """A part of a picture; in pixels."""

    top: int
    left: int
    height: int
    width: int


class Mirror(NamedTuple):
    """A picture mirrored, or not."""

    left_right: bool
    top_bottom: bool


UPRIGHT = Mirror(False, False)


class Scale(NamedTuple):
    """A whole picture in another size, in pixels."""

    height: int
    width: int


class Target(NamedTuple):
    """A picture in another size, of which a part is shown, mirrored or not."""

    scale: Scale
    part: Cut  # in pixels of the new size
    mirror: Mirror

    @classmethod
    def whole(cls, height: int, width: int) -> Target:
        """Return one that shows all of it.

        >>> Target.whole(20, 30).is_whole
        True
        """
        return cls(Scale(height, width), Cut(0, 0, height, width), UPRIGHT)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is done but to scale."""
        return self.mirror == UPRIGHT and self.part == (0, 0, *self.scale)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The same, as bilinear.h has it."""
        return *self.scale, *self.part, self.mirror.left_right + 2 * self.mirror.top_bottom


class Warp(NamedTuple):
    """A matrix; the size stays as it is."""

    matrix: Matrix


class Bend(NamedTuple):
    """Each pixel shows a place that is shifted by (x, y) pixels from its own; the size stays as it is."""

    shifts: NDArray[np.float32]  # (height, width, 2)


class Cuts(NamedTuple):
    """A part of each of many pictures; in pixels."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    height: int
    width: int


class Mirrors(NamedTuple):
    """Each of many pictures mirrored, or not."""

    left_right: NDArray[np.bool_]
    top_bottom: NDArray[np.bool_]


Move = Cut | Mirror | Scale | Warp | Bend


def product(first: Matrix, second: Matrix) -> Matrix:
    """Return the matrix product: what leads through `second`, then through `first`.

    >>> product((1, 0, 5, 0, 1, 0, 0, 0, 1), (2, 0, 0, 0, 2, 0, 0, 0, 1))
    (2, 0, 5, 0, 2, 0, 0.0, 0.0, 1.0)
    """
    a, b, c, d, e, f, g, h, i = first
    j, k, m, n, o, p, q, r, s = second
    if not (g or h or q or r) and i == s == 1:  # affine, as nearly all are
        return (
            *(a * j + b * n, a * k + b * o, a * m + b * p + c),
            *(d * j + e * n, d * k + e * o, d * m + e * p + f),
            *(0.0, 0.0, 1.0),
        )
    return (
        a * j + b * n + c * q,
        a * k + b * o + c * r,
        a * m + b * p + c * s,
        d * j + e * n + f * q,
        d * k + e * o + f * r,
        d * m + e * p + f * s,
        g * j + h * n + i * q,
        g * k + h * o + i * r,
        g * m + h * p + i * s,
    )


def as_array(matrix: Matrix) -> NDArray[np.float64]:
    """Return a matrix of shape (3, 3)."""
    return np.array(matrix).reshape(3, 3)


def cut(top: float, left: float) -> Matrix:
    """Return the matrix of a part of a picture."""
    return (1.0, 0.0, left, 0.0, 1.0, top, 0.0, 0.0, 1.0)


def scaled(by_height: float, by_width: float) -> Matrix:
    """Return the matrix of a picture that is smaller by these factors: edges lie on edges."""
    return (by_width, 0.0, (by_width - 1) / 2, 0.0, by_height, (by_height - 1) / 2, 0.0, 0.0, 1.0)


def mirrored(mirror: Mirror, height: int, width: int) -> Matrix:
    """Return the matrix of a mirrored picture of this size."""
    left_right, top_bottom = mirror
    return (
        -1.0 if left_right else 1.0,
        0.0,
        width - 1.0 if left_right else 0.0,
        0.0,
        -1.0 if top_bottom else 1.0,
        height - 1.0 if top_bottom else 0.0,
        0.0,
        0.0,
        1.0,
    )


def centred(a: float, b: float, d: float, e: float, height: int, width: int) -> Warp:
    """Return the warp (x, y) -> (a x + b y, d x + e y) around the middle of a picture of this size."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return Warp((a, b, x - a * x - b * y, d, e, y - d * x - e * y, 0.0, 0.0, 1.0))
