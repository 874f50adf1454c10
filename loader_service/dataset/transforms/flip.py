"""Mirror pictures at random, with the copy into the row, not after it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.transforms.transform import Draws, FieldTransform, image_field
from loader_service.protocol.spec import FieldSpec

OPENCV_DTYPES = frozenset(
    np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")
)


class RandomFlip(FieldTransform):
    """Mirror left-right and top-bottom, each with its own probability."""

    draws: ClassVar[int] = 2
    vectorised: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    kind: Literal["random_flip"] = "random_flip"
    horizontal: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.5
    vertical: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.0

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep the shape."""
        image_field(self, field)
        return field

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Mirror a picture, or those of a column."""
        flips = draws < (self.horizontal, self.vertical)
        if value.ndim == 3:
            return _flip(value, flips, out)
        if out is None:
            out = np.empty_like(value)
        if out is not value:
            out[...] = value
        for row in np.flatnonzero(flips.any(axis=1)):
            picture = out[row]
            flipped = _flip(picture, flips[row], picture)
            if flipped is not picture:
                picture[...] = flipped
        return out


def _flip(value: np.ndarray, flips: NDArray[np.bool_], out: np.ndarray | None) -> np.ndarray:
    left_right, top_bottom = flips
    if not left_right and not top_bottom:
        return value
    if value.shape[2] <= 4 and value.dtype in OPENCV_DTYPES:
        code = -1 if left_right and top_bottom else 1 if left_right else 0
        flipped: np.ndarray = cv2.flip(value, code, dst=out)
        return flipped if flipped.ndim == 3 else flipped[:, :, None]
    flipped = value[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
    return flipped.copy() if value is out else flipped
