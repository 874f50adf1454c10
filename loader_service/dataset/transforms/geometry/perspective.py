"""Pictures as if seen from aside."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.geometry.geometric import Warping
from loader_service.dataset.transforms.geometry.moves import Move, Warp
from loader_service.dataset.transforms.transform import Draws


class RandomPerspective(Warping):
    """Move each corner inwards by a random part of the picture, as if it were seen from aside.

    Source: torchvision's RandomPerspective, whose `distortion_scale` this is.
    """

    draws: ClassVar[int] = 9
    kind: Literal["random_perspective"] = "random_perspective"
    distortion: Annotated[
        float, Field(ge=0, lt=1, description="How far a corner moves at most, as a share of half a side.")
    ] = 0.5

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Move the corners."""
        edges = (-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)
        inwards = (width, height), (-width, height), (-width, -height), (width, -height)
        share, drawn = self.distortion / 2, iter(draws)
        moved = [
            [edge + inward * next(drawn) * share for edge, inward in zip(*pair, strict=True)]
            for pair in zip(edges, inwards, strict=True)
        ]
        lead = cv2.getPerspectiveTransform(np.array(moved, np.float32), np.array(edges, np.float32))
        return Warp(tuple((lead / lead[2, 2]).ravel().tolist()))
