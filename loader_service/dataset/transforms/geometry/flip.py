"""Mirror pictures at random, with the copy into the row, not after it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.geometry.drawing import flipped
from loader_service.dataset.transforms.geometry.geometric import Geometric
from loader_service.dataset.transforms.geometry.moves import Mirror, Move
from loader_service.dataset.transforms.transform import ColumnDraws, Draws


class RandomFlip(Geometric):
    """Mirror left-right and top-bottom, each with its own probability."""

    draws: ClassVar[int] = 2
    vectorised: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    kind: Literal["random_flip"] = "random_flip"
    horizontal: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.5
    vertical: Annotated[float, Field(ge=0, le=1, description="Probability.")] = 0.0

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Mirror."""
        return (self._mirror(draws),)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Mirror a picture."""
        return flipped(value, self._mirror(draws), out)

    def apply_column(self, values: np.ndarray, draws: ColumnDraws, out: np.ndarray | None) -> np.ndarray:
        """Copy the pictures of a column, and mirror some of the copies."""
        if out is None:
            out = np.empty_like(values)
        if out is not values:
            out[...] = values
        flips = draws < (self.horizontal, self.vertical)
        for row in np.flatnonzero(flips.any(axis=1)):
            picture = out[row]
            mirrored = flipped(picture, self._mirror(draws[row].tolist()), picture)
            if mirrored is not picture:
                picture[...] = mirrored
        return out

    def _mirror(self, draws: Draws) -> Mirror:
        horizontal, vertical = draws
        return Mirror(horizontal < self.horizontal, vertical < self.vertical)
