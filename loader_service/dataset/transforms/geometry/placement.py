"""Several moves -> one placement: where each pixel of the last output comes from in the first picture.

    simple    crops, mirrors, at most one scale   window -> scale -> inner -> mirror: views, one resize, one flip
    general   anything else                       window -> one matrix, or matrices with a bend between

The window is what crops leave before anything else happens: the picture that is then warped ends at its edges. Behind
the first warp nothing is lost on the way: what one step pushes out of the picture, a later one can bring back.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.transforms.geometry.moves import (
    IDENTITY,
    UPRIGHT,
    Bend,
    Cut,
    Matrix,
    Mirror,
    Move,
    Scale,
    Target,
    Warp,
    as_array,
    cut,
    mirrored,
    product,
    scaled,
)


class Placement:
    """Where the pixels of a picture of (height, width) come from."""

    __slots__ = ("_maps", "bend", "bend_from", "height", "inner", "matrix", "mirror", "scale", "width", "window")

    def __init__(self, height: int, width: int) -> None:
        """Begin with a picture of this size, as it is."""
        self.height, self.width = height, width  # of the output
        self.window = Cut(0, 0, height, width)  # of the picture
        self.scale: Scale | None = None  # of the window
        self.inner: Cut | None = None  # of the scaled window
        self.mirror = UPRIGHT
        self.matrix: Matrix | None = None  # from the output, or from the bend's frame, to the window; None: simple
        self.bend: Bend | None = None
        self.bend_from: Matrix = IDENTITY  # from the output to the bend's frame
        self._maps: NDArray[np.float32] | None = None

    def follow(self, moves: Iterable[Move]) -> None:
        """Do more moves, in turn."""
        for move in moves:
            if self.matrix is None and self._stays_simple(move):
                continue
            self._compose(move)

    @property
    def target(self) -> Target | None:
        """What the window becomes; None, if it is warped, or stays as large as it is."""
        if self.matrix is not None or self.scale is None:
            return None
        return Target(self.scale, self.inner or Cut(0, 0, *self.scale), self.mirror)

    def to_window(self) -> Matrix:
        """Return the matrix from a place in the output to one in the window; of a bend, without its shifts."""
        if self.matrix is not None:
            return product(self.matrix, self.bend_from) if self.bend is not None else self.matrix
        made = IDENTITY
        if self.scale is not None:
            made = scaled(self.window.height / self.scale.height, self.window.width / self.scale.width)
        if self.inner is not None:
            made = product(made, cut(self.inner.top, self.inner.left))
        if self.mirror != UPRIGHT:
            made = product(made, mirrored(self.mirror, self.height, self.width))
        return made

    def narrow(self, part: Cut, shrink: int) -> None:
        """From here on, lead to a picture that is only a part of the one it was made for, scaled down by `shrink`.

        Args:
            part: In pixels of the picture, scaled down.
        """
        top, left, height, width = self.window
        if shrink == 1:
            self.window = Cut(top - part.top, left - part.left, height, width)
            return
        smaller = product(cut(-part.top, -part.left), product(scaled(1 / shrink, 1 / shrink), cut(top, left)))
        self.matrix = product(smaller, self.to_window() if self.matrix is None else self.matrix)
        self.window, self._maps = Cut(0, 0, part.height, part.width), None

    def to_picture(self) -> Matrix:
        """Return the matrix from a place in the output to one in the picture; of a bend, without its shifts."""
        return product(cut(self.window.top, self.window.left), self.to_window())

    def maps(self) -> NDArray[np.float32]:
        """Return the place in the window that each pixel shows, (height, width, 2): of a placement with a bend."""
        if self._maps is None:
            assert self.bend is not None, "any other placement is a matrix"
            assert self.matrix is not None, "a bend is never simple"
            places, shifts = _grid(self.height, self.width), self.bend.shifts
            if self.bend_from != IDENTITY or shifts.shape != places.shape:  # a crop may begin at the first pixel
                size = (self.width, self.height)
                flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
                shifts = cv2.warpPerspective(shifts, as_array(self.bend_from), size, flags=flags, borderMode=border)
                places = moved(places, self.bend_from)
            self._maps = moved(places + shifts, self.matrix)
        return self._maps

    def _stays_simple(self, move: Move) -> bool:
        """Do a move that keeps the placement simple, and say whether it was one."""
        if isinstance(move, Cut):
            self._cut(move)
            return True
        if isinstance(move, Mirror):
            self.mirror = Mirror(self.mirror.left_right != move.left_right, self.mirror.top_bottom != move.top_bottom)
            return True
        if isinstance(move, Scale) and self.inner is None:
            self.height, self.width = move
            self.scale = None if move == self.window[2:] else move
            return True
        return isinstance(move, Scale) and move == (self.height, self.width)

    def _cut(self, move: Cut) -> None:
        top, left, height, width = move
        if self.mirror.top_bottom:  # cut first, and mirror what is left
            top = self.height - top - height
        if self.mirror.left_right:
            left = self.width - left - width
        self.height, self.width = height, width
        before = self.window if self.scale is None else self.inner or Cut(0, 0, *self.scale)
        made = Cut(before.top + top, before.left + left, height, width)
        if self.scale is None:
            self.window = made
        elif made != (0, 0, *self.scale):
            self.inner = made

    def _compose(self, move: Move) -> None:
        if self.matrix is None:
            self.matrix = self.to_window()
        if isinstance(move, Bend):
            assert self.bend is None, "fusing.py puts one bend into a run"
            self.bend = move
            return
        if isinstance(move, Warp):
            step = move.matrix
        elif isinstance(move, Cut):
            step = cut(move.top, move.left)
            self.height, self.width = move.height, move.width
        elif isinstance(move, Scale):
            step = scaled(self.height / move.height, self.width / move.width)
            self.height, self.width = move
        else:
            step = mirrored(move, self.height, self.width)
        if self.bend is None:
            self.matrix = step if self.matrix is IDENTITY else product(self.matrix, step)
        else:
            self.bend_from = product(self.bend_from, step)


def placed(height: int, width: int, moves: Iterable[Move]) -> Placement:
    """Return the placement of some moves of a picture of this size."""
    made = Placement(height, width)
    made.follow(moves)
    return made


def moved(places: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float32]:
    """Return where a matrix leads places of shape (rows, columns, 2)."""
    if matrix == IDENTITY:
        return places
    if matrix[6] == matrix[7] == 0:
        made: NDArray[np.float32] = cv2.transform(places, as_array(matrix)[:2])
    else:
        made = cv2.perspectiveTransform(places, as_array(matrix))
    return made


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the place of each pixel, (height, width, 2)."""
    made = np.empty((height, width, 2), np.float32)
    made[..., 0] = np.arange(width)
    made[..., 1] = np.arange(height)[:, None]
    made.flags.writeable = False
    return made
