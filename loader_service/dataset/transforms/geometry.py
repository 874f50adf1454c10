"""Resize and crop pictures: views where nothing moves, one OpenCV call into the row where something does."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import AfterValidator, Field, model_validator

from loader_service.dataset.transforms.transform import Draws, FieldTransform, Pixels, image_field
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

Interpolation = Literal["nearest", "bilinear", "area", "cubic"]
INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST_EXACT,  # nearest to a pixel's centre, as in Pillow, Keras and TensorFlow
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
}
RESIZABLE = ("uint8", "uint16", "int16", "float32", "float64")


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not 0 < low <= high:
        raise ValueError(f"{pair} is no range: expected two numbers, 0 < low <= high")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class _ToSize(FieldTransform):
    """A step after which every picture has the same height and width."""

    height: Pixels
    width: Pixels

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Replace height and width."""
        *_, channels = image_field(self, field)
        return FieldSpec((self.height, self.width, channels), field.dtype)


class _Resizing(_ToSize):
    interpolation: Interpolation = "bilinear"

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Replace height and width, where OpenCV can resize the dtype."""
        if field.dtype not in RESIZABLE:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected one of {RESIZABLE}: cast it first"
            )
        declared = super().declare_field(field)
        if self.interpolation == "area" and declared.room[2] > 4:
            raise DatasetError(
                f'{self.kind}: field {self.field!r} is {field}: interpolation="area" takes at most 4 channels'
            )
        return declared

    def _resized(self, picture: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        if picture.shape[:2] == (self.height, self.width):
            return picture
        size = (self.width, self.height)
        resized: np.ndarray = cv2.resize(picture, size, dst=out, interpolation=INTERPOLATIONS[self.interpolation])
        return resized if resized.ndim == 3 else resized[:, :, None]  # OpenCV drops a single channel's axis


class Resize(_Resizing):
    """Scale to (height, width), whatever the aspect ratio was."""

    kind: Literal["resize"] = "resize"

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Resize one picture."""
        return self._resized(value, out)


class CenterCrop(_ToSize):
    """Cut (height, width) out of the middle."""

    views: ClassVar[bool] = True
    kind: Literal["center_crop"] = "center_crop"

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Return a view of one picture."""
        spare_rows, spare_columns = _spare(self, value)
        return _crop(value, spare_rows // 2, spare_columns // 2, self.height, self.width)


class RandomCrop(_ToSize):
    """Cut (height, width) out of anywhere, every place alike."""

    draws: ClassVar[int] = 2
    views: ClassVar[bool] = True
    kind: Literal["random_crop"] = "random_crop"

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Return a view of one picture."""
        spare_rows, spare_columns = _spare(self, value)
        top, left = int(draws[0] * (spare_rows + 1)), int(draws[1] * (spare_columns + 1))
        return _crop(value, top, left, self.height, self.width)


class RandomResizedCrop(_Resizing):
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

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Crop and resize one picture."""
        return self._resized(_crop(value, *self.box(value.shape[0], value.shape[1], draws)), out)

    def box(self, height: int, width: int, draws: Draws) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part that is cut out of a picture of this size, in pixels."""
        low, high = self.scale
        narrow, wide = math.log(self.ratio[0]), math.log(self.ratio[1])
        *shapes, down, right = draws.tolist()
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


def _spare(transform: _ToSize, value: np.ndarray) -> tuple[int, int]:
    """Return how many rows and columns of a picture its crop leaves over."""
    height, width = value.shape[:2]
    if height < transform.height or width < transform.width:
        raise DatasetError(
            f"{transform.kind}: the picture is {height} x {width} pixels, smaller than the crop of "
            f"{transform.height} x {transform.width}. Resize it first, or make the crop smaller."
        )
    return height - transform.height, width - transform.width


def _crop(picture: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    return picture[top : top + height, left : left + width]
