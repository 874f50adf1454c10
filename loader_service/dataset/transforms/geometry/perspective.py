"""Pictures as if seen from aside."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.geometry.geometric import Warping
from loader_service.dataset.transforms.geometry.moves import Move, Warp


class RandomPerspective(Warping):
    """Move each corner inwards by a random part of the picture, as if it were seen from aside.

    Source: torchvision's RandomPerspective, whose `distortion_scale` this is.
    """

    draws: ClassVar[int] = 9
    kind: Literal["random_perspective"] = "random_perspective"
    distortion: Annotated[
        float, Field(ge=0, lt=1, description="How far a corner moves at most, as a share of half a side.")
    ] = 0.5

    def warp(self, height: int, width: int, draws: list[float]) -> Move:
        """Move the corners."""
        edges = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - np.float32(0.5)
        inwards = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (width, height)
        moved = edges + inwards * np.reshape(draws, (4, 2)) * (self.distortion / 2)
        lead = cv2.getPerspectiveTransform(moved.astype(np.float32), edges)
        return Warp(tuple((lead / lead[2, 2]).ravel().tolist()))
