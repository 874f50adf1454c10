"""Parts of pictures: views of them, which copy nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.transforms.geometry.geometric import ToSize
from loader_service.dataset.transforms.geometry.moves import Cut, Cuts, Move
from loader_service.dataset.transforms.transform import ColumnDraws, Draws
from loader_service.protocol.errors import DatasetError

Corners = NDArray[np.int64]


class _Crop(ToSize):
    """A step that cuts (height, width) out."""

    views: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Cut."""
        return (Cut(*self.corner(height, width, draws), self.height, self.width),)

    def moves_of_many(self, height: int, width: int, draws: ColumnDraws) -> Cuts:
        """Cut each."""
        return Cuts(*self.corners(height, width, draws), self.height, self.width)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Cut a view out."""
        height, width, *_ = value.shape
        top, left = self.corner(height, width, draws)
        return value[top : top + self.height, left : left + self.width]

    def corner(self, height: int, width: int, draws: Draws) -> tuple[int, int]:
        """Return the top and the left of the part, in pixels."""
        raise NotImplementedError(f"{type(self).__name__} must tell what it cuts out")

    def corners(self, height: int, width: int, draws: ColumnDraws) -> tuple[Corners, Corners]:
        """Return the tops and the lefts of many parts, in pixels."""
        raise NotImplementedError(f"{type(self).__name__} must tell what it cuts out")

    def _spare(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of a picture are left over."""
        if height < self.height or width < self.width:
            raise DatasetError(
                f"{self.kind}: the picture is {height} x {width} pixels, smaller than the crop of "
                f"{self.height} x {self.width}. Resize it first, or make the crop smaller."
            )
        return height - self.height, width - self.width


class CenterCrop(_Crop):
    """Cut (height, width) out of the middle."""

    kind: Literal["center_crop"] = "center_crop"

    def corner(self, height: int, width: int, draws: Draws) -> tuple[int, int]:
        """Take the middle."""
        spare_rows, spare_columns = self._spare(height, width)
        return spare_rows // 2, spare_columns // 2

    def corners(self, height: int, width: int, draws: ColumnDraws) -> tuple[Corners, Corners]:
        """Take the middle of each."""
        top, left = self.corner(height, width, [])
        return np.full(len(draws), top), np.full(len(draws), left)


class RandomCrop(_Crop):
    """Cut (height, width) out of anywhere, every place alike."""

    draws: ClassVar[int] = 2
    kind: Literal["random_crop"] = "random_crop"

    def corner(self, height: int, width: int, draws: Draws) -> tuple[int, int]:
        """Take any place."""
        spare_rows, spare_columns = self._spare(height, width)
        down, right = draws
        return int(down * (spare_rows + 1)), int(right * (spare_columns + 1))

    def corners(self, height: int, width: int, draws: ColumnDraws) -> tuple[Corners, Corners]:
        """Take any place of each."""
        spare_rows, spare_columns = self._spare(height, width)
        down, right = draws.T
        return (down * (spare_rows + 1)).astype(np.int64), (right * (spare_columns + 1)).astype(np.int64)
