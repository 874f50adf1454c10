"""Mirror pictures at random, with the copy into the row, not after it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.geometry.geometric import Geometric
from loader_service.dataset.transforms.geometry.mirroring import flipped
from loader_service.dataset.transforms.geometry.moves import Mirror, Mirrors, Move
from loader_service.dataset.transforms.transform import ColumnDraws, Draws


class RandomFlip(Geometric):
    """Mirror left-right and top-bottom, each with its own probability."""

    draws: ClassVar[int] = 2
    in_place: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    kind: Literal["random_flip"] = "random_flip"
    horizontal: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.5
    vertical: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.0

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Mirror."""
        return (self._mirror(draws),)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Mirror a picture."""
        return flipped(value, self._mirror(draws), out)

    def moves_of_many(self, height: int, width: int, draws: ColumnDraws) -> Mirrors:
        """Mirror each."""
        return Mirrors(draws[:, 0] < self.horizontal, draws[:, 1] < self.vertical)

    def _mirror(self, draws: Draws) -> Mirror:
        horizontal, vertical = draws
        return Mirror(horizontal < self.horizontal, vertical < self.vertical)
