"""What steps have in common that change the pixels of a picture, and neither its shape nor its dtype.

They take one picture after the other, in place if asked to.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from loader_service.dataset.transforms.ranges import Ends, Pair, Probability
from loader_service.dataset.transforms.transform import Draws, FieldTransform, image_field
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

BYTE = np.dtype("uint8")  # to compare with: much faster than with np.uint8
ALPHA = 4  # channels of a picture whose last one says how opaque it is
OUT_OF_RANGE = 0.05  # of the range: farther outside, pictures are in other units


class PictureTransform(FieldTransform):
    """A step on pictures of 1, 3 or 4 channels."""

    vectorised: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "float32")
    needs_colour: ClassVar[bool] = False  # of one channel, it makes no sense

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep shape and dtype."""
        *_, channels = image_field(self, field)
        if field.dtype not in self.dtypes:
            wanted = " or ".join(self.dtypes)
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected {wanted}: {_advice(self, field)}"
            )
        if channels not in (1, 3, ALPHA):
            raise DatasetError(f"{self.kind}: field {self.field!r} is {field}, expected 1, 3 or 4 channels")
        if self.needs_colour and channels == 1:
            raise DatasetError(f"{self.kind}: field {self.field!r} is {field}, and grey has no colour: leave it out")
        return field


class RandomPicture(PictureTransform):
    """One that is done at random, in place if asked to; of the fourth channel, which is alpha, nothing is changed."""

    draws: ClassVar[int] = 1  # the last one decides whether it is done
    in_place: ClassVar[bool] = True
    changes_alpha: ClassVar[bool] = False  # `change` takes the four channels, too

    probability: Probability = 1.0

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Change a picture, or leave it as it is."""
        *numbers, decides = draws
        if decides >= self.probability:
            return value
        if out is None or out.shape != value.shape:
            out = np.empty(value.shape, value.dtype)
        if value.shape[2] != ALPHA or self.changes_alpha:
            self.change(value, numbers, out)
            return out
        colours = cv2.cvtColor(value, cv2.COLOR_RGBA2RGB)
        self.change(colours, numbers, colours)
        cv2.mixChannels([colours, value], [out], [0, 0, 1, 1, 2, 2, 3 + 3, 3])
        return out

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Write the changed picture into `out`, which may be the picture itself.

        Args:
            numbers: The draws in [0, 1), without the one that decides whether it is done.
        """
        raise NotImplementedError(f"{type(self).__name__} must change pictures")


class RangedPicture(RandomPicture):
    """A step that must know which value is black, and which is white."""

    value_range: Annotated[
        Ends | None, Field(description="Black and white of float pictures, 0 and 1 if nothing is said.")
    ] = None

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if self.value_range is not None and self.value_range[0] == self.value_range[1]:
            raise ValueError(f"value_range {self.value_range} is empty: expected two numbers, as in (0, 255)")
        return self

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep shape and dtype."""
        declared = super().declare_field(field)
        if field.dtype == "uint8" and self.value_range is not None:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, whose range is 0 .. 255: "
                "value_range is for float pictures, leave it out"
            )
        return declared

    def bounds(self, picture: np.ndarray) -> Pair:
        """Return black and white of a picture."""
        if picture.dtype == BYTE:
            return 0.0, 255.0
        return self.value_range or (0.0, 1.0)

    def range_doubt(self, picture: np.ndarray) -> str | None:
        """Return what is wrong if a picture's values are in other units than this step believes."""
        low, high = self.bounds(picture)
        least, most = float(picture.min()), float(picture.max())
        slack = OUT_OF_RANGE * (high - low)
        if low - slack <= least and most <= high + slack:
            return None
        return (
            f"{self.kind}: values of field {self.field!r} are {least:g} .. {most:g} in the first sample, and float "
            f"pictures are taken to be in {low:g} .. {high:g}: what lies outside is cut off. Say value_range=(low, "
            "high), or rescale before"
        )


def clip(picture: np.ndarray, bounds: Pair) -> None:
    """Cut values off at black and white, in place; uint8 has been cut off already."""
    if picture.dtype != BYTE:
        np.clip(picture, bounds[0], bounds[1], out=picture)


def _advice(transform: PictureTransform, field: FieldSpec) -> str:
    if "float32" not in transform.dtypes:
        return "put it before what makes floats of pictures, such as rescale or normalize"
    return (
        f'cast it first, .cast({transform.field!r}, "float32")'
        if field.dtype.startswith("float")
        else (
            f"rescale it first, .rescale(1 / {np.iinfo(field.dtype).max if field.dtype[0] in 'iu' else 1}, "
            f"field={transform.field!r})"
        )
    )
