"""Parts of pictures: views of them, which copy nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

from loader_service.dataset.transforms.geometry.geometric import ToSize
from loader_service.dataset.transforms.geometry.moves import Cut, Move, numbers
from loader_service.dataset.transforms.transform import Draws
from loader_service.protocol.errors import DatasetError


class CenterCrop(ToSize):
    """Cut (height, width) out of the middle."""

    views: ClassVar[bool] = True
    kind: Literal["center_crop"] = "center_crop"

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Cut."""
        spare_rows, spare_columns = _spare(self, height, width)
        return (Cut(spare_rows // 2, spare_columns // 2, self.height, self.width),)


class RandomCrop(ToSize):
    """Cut (height, width) out of anywhere, every place alike."""

    draws: ClassVar[int] = 2
    views: ClassVar[bool] = True
    kind: Literal["random_crop"] = "random_crop"

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Cut."""
        spare_rows, spare_columns = _spare(self, height, width)
        down, right = numbers(draws)
        return (Cut(int(down * (spare_rows + 1)), int(right * (spare_columns + 1)), self.height, self.width),)


def _spare(crop: ToSize, height: int, width: int) -> tuple[int, int]:
    """Return how many rows and columns of a picture its crop leaves over."""
    if height < crop.height or width < crop.width:
        raise DatasetError(
            f"{crop.kind}: the picture is {height} x {width} pixels, smaller than the crop of "
            f"{crop.height} x {crop.width}. Resize it first, or make the crop smaller."
        )
    return height - crop.height, width - crop.width
