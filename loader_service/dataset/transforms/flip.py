"""Mirror pictures at random, with the copy into the row, not after it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.transform import Draws, FieldTransform, image_field
from loader_service.protocol.spec import FieldSpec

OPENCV_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")


class RandomFlip(FieldTransform):
    """Mirror left-right and top-bottom, each with its own probability."""

    draws: ClassVar[int] = 2
    in_place: ClassVar[bool] = True

    kind: Literal["random_flip"] = "random_flip"
    horizontal: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.5
    vertical: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.0

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep the shape."""
        image_field(self, field)
        return field

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Mirror one picture."""
        left_right, top_bottom = draws[0] < self.horizontal, draws[1] < self.vertical
        if not left_right and not top_bottom:
            return value
        if value.shape[2] <= 4 and value.dtype.name in OPENCV_DTYPES:
            code = -1 if left_right and top_bottom else 1 if left_right else 0
            flipped: np.ndarray = cv2.flip(value, code, dst=out)
            return flipped if flipped.ndim == 3 else flipped[:, :, None]
        flipped = value[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
        return flipped.copy() if value is out else flipped
