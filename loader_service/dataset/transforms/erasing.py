"""Cover random boxes of a picture."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from loader_service.dataset.draws import mix
from loader_service.dataset.transforms.picture import BYTE, RangedPicture
from loader_service.dataset.transforms.ranges import Ends, Probability
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

ATTEMPTS = 10  # at a box that fits into the picture; after them, there is none
MOST_BOXES = 8
PER_BOX = 2 * ATTEMPTS + 2  # draws


class RandomErasing(RangedPicture):
    """Cover boxes of random size, shape and place, with a constant or with noise.

    Source: Zhong et al., "Random erasing data augmentation", 2017; the ten attempts are torchvision's. Several boxes
    are those of DeVries and Taylor, "Cutout", 2017.
    """

    draws: ClassVar[int] = MOST_BOXES * PER_BOX + 2
    changes_alpha: ClassVar[bool] = True
    kind: Literal["random_erasing"] = "random_erasing"
    boxes: Annotated[int, Field(ge=1, le=MOST_BOXES, description="That are covered in a picture.")] = 1
    scale: Annotated[Ends, Field(description="Least and largest share of the area, of each box.")] = (0.02, 0.33)
    ratio: Annotated[Ends, Field(description="Least and largest width / height.")] = (0.3, 3.3)
    fill: Annotated[
        Literal["noise"] | float | tuple[float, ...],
        Field(description='A number, one for each channel, or "noise": any value of the range, for each pixel.'),
    ] = 0.0
    probability: Probability = 0.5

    @model_validator(mode="after")
    def _are_shares(self) -> Self:
        if not (self.scale[0] > 0 and self.scale[1] <= 1):
            raise ValueError(f"scale {self.scale} is no range of shares of the area: expected above 0, and 1 at most")
        if self.ratio[0] <= 0:
            raise ValueError(f"ratio {self.ratio} must be above 0")
        return self

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep shape and dtype."""
        declared = super().declare_field(field)
        colour = () if isinstance(self.fill, str) else np.atleast_1d(self.fill)
        if len(colour) > 1 and len(colour) != field.shape[-1]:
            raise DatasetError(
                f"random_erasing: fill has {len(colour)} numbers, field {self.field!r} is {field}: expected one, or "
                "one for each channel"
            )
        if field.dtype == "uint8" and any(not 0 <= number <= 255 for number in colour):
            raise DatasetError(f"random_erasing: fill {self.fill} is no colour of bytes: expected 0 .. 255")
        return declared

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Cover the boxes of one picture."""
        if out is not picture:
            np.copyto(out, picture)
        for number in range(self.boxes):
            box = self.box(picture.shape[0], picture.shape[1], numbers[number * PER_BOX : (number + 1) * PER_BOX])
            if box is not None:
                top, left, height, width = box
                self._cover(out[top : top + height, left : left + width], int(numbers[-1] * (1 << 53)) + number)

    def box(self, height: int, width: int, numbers: list[float]) -> tuple[int, int, int, int] | None:
        """Return top, left, height and width of a box in a picture of this size, in pixels; None if none fits."""
        low, high = self.scale
        narrow, wide = math.log(self.ratio[0]), math.log(self.ratio[1])
        *shapes, down, right = numbers
        for attempt in range(ATTEMPTS):
            area = height * width * (low + (high - low) * shapes[2 * attempt])
            ratio = math.exp(narrow + (wide - narrow) * shapes[2 * attempt + 1])
            box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < box_width < width and 0 < box_height < height:
                top, left = int(down * (height - box_height + 1)), int(right * (width - box_width + 1))
                return top, left, box_height, box_width
        return None

    def _cover(self, part: np.ndarray, seed: int) -> None:
        if self.fill != "noise":
            part[...] = self.fill
            return
        bits = mix(np.arange(1, -(-part.size // 8) + 1, dtype=np.uint64), seed).view(np.uint8)
        noise = bits[: part.size].reshape(part.shape)
        if part.dtype == BYTE:
            part[...] = noise
        else:
            low, high = self.bounds(part)
            np.multiply(noise, np.float32((high - low) / 255), out=part, dtype=np.float32, casting="unsafe")
            part += np.float32(low)
