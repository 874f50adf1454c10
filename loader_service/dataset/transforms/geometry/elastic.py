"""Pictures as if drawn on rubber."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.draws import mix
from loader_service.dataset.transforms.geometry.geometric import Warping
from loader_service.dataset.transforms.geometry.moves import Bend, Move
from loader_service.dataset.transforms.transform import Draws

CELLS = 2.5  # of the noise, that its blur is to reach over: of fewer, one would see them


class RandomElastic(Warping):
    """Shift each pixel by noise: numbers between -1 and 1, blurred over `sigma` pixels, times `alpha` pixels.

    Blurred noise is small: pixels move by about alpha / (6 sigma), in each direction. Where `sigma` is large, the noise
    is drawn for cells of several pixels, and is as strong.

    Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", 2003, section 2.
    """

    draws: ClassVar[int] = 2
    bends: ClassVar[bool] = True
    kind: Literal["random_elastic"] = "random_elastic"
    alpha: Annotated[float, Field(ge=0, description="Strength, in pixels.")] = 50.0
    sigma: Annotated[float, Field(ge=0.5, le=1000, description="Reach of the blur, in pixels.")] = 5.0

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Bend."""
        cell = max(1, int(self.sigma / CELLS))
        rows, columns = -(-height // cell), -(-width // cell)
        counters = np.arange(1, rows * columns * 2 + 1, dtype=np.uint64)
        bits = mix(counters, int(draws[0] * 2**53)) >> np.uint64(40)
        noise = (bits.astype(np.float32) * np.float32(2.0**-23) - 1).reshape(rows, columns, 2)
        shifts = cv2.GaussianBlur(noise, (0, 0), self.sigma / cell) * np.float32(self.alpha / cell)
        if cell > 1:
            shifts = cv2.resize(shifts, (columns * cell, rows * cell))[:height, :width]
        return Bend(np.ascontiguousarray(shifts))
