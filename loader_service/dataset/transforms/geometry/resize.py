"""Pictures, or parts of them, in another size."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from loader_service.dataset.transforms.geometry.drawing import resized
from loader_service.dataset.transforms.geometry.geometric import Resampling, ToSize
from loader_service.dataset.transforms.geometry.moves import Cut, Move, Scale, Target
from loader_service.dataset.transforms.transform import Draws


def _above_zero(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not 0 < low <= high:
        raise ValueError(f"{pair} is no range: expected two numbers, 0 < low <= high")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_above_zero)]


class Resize(Resampling, ToSize):
    """Scale to (height, width), whatever the aspect ratio was."""

    scales: ClassVar[bool] = True
    kind: Literal["resize"] = "resize"

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Scale."""
        return (Scale(self.height, self.width),)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Scale one picture."""
        return resized(value, Target.whole(self.height, self.width), self.interpolation, self.antialias, out)


class RandomResizedCrop(Resampling, ToSize):
    """Cut a random part out, and scale it to (height, width).

    The part has `scale` of the picture's area and an aspect ratio within `ratio`, both drawn anew up to ten times
    until it lies inside; after that the largest centred part of a legal ratio is taken.

    Source: Szegedy et al., "Going deeper with convolutions", 2014, section 6; the ten attempts are torchvision's.
    """

    ATTEMPTS: ClassVar[int] = 10
    draws: ClassVar[int] = 2 * ATTEMPTS + 2
    kind: Literal["random_resized_crop"] = "random_resized_crop"
    scale: Annotated[Range, Field(description="Least and largest share of the area.")] = (0.08, 1.0)
    ratio: Annotated[Range, Field(description="Least and largest width / height.")] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _at_most_the_whole(self) -> Self:
        if self.scale[1] > 1:
            raise ValueError(f"scale {self.scale} exceeds 1, the whole picture")
        return self

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Cut, and scale."""
        return Cut(*self.box(height, width, draws)), Scale(self.height, self.width)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Cut a part of one picture out, and scale it."""
        height, width, *_ = value.shape
        top, left, height, width = self.box(height, width, draws)
        part = value[top : top + height, left : left + width]
        return resized(part, Target.whole(self.height, self.width), self.interpolation, self.antialias, out)

    def box(self, height: int, width: int, draws: Draws) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part that is cut out of a picture of this size, in pixels."""
        low, high = self.scale
        narrow, wide = math.log(self.ratio[0]), math.log(self.ratio[1])
        *shapes, down, right = draws
        for attempt in range(self.ATTEMPTS):
            area = height * width * (low + (high - low) * shapes[2 * attempt])
            ratio = math.exp(narrow + (wide - narrow) * shapes[2 * attempt + 1])
            box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < box_width <= width and 0 < box_height <= height:
                top, left = int(down * (height - box_height + 1)), int(right * (width - box_width + 1))
                return top, left, box_height, box_width
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        box_width = max(1, min(width, round(height * ratio)))
        box_height = max(1, min(height, round(width / ratio)))
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
