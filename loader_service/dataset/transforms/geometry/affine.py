"""Pictures turned, moved, leant and zoomed, around their middle."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from loader_service.dataset.transforms.geometry.geometric import ONE_OR_TWO, EitherWay, Warping, ordered
from loader_service.dataset.transforms.geometry.moves import Move, Warp, centred, cut, product
from loader_service.dataset.transforms.ranges import between
from loader_service.dataset.transforms.transform import Draws


class RandomRotate(Warping):
    """Turn by a random angle within `degrees`; angles above 0 turn to the left."""

    draws: ClassVar[int] = 2
    kind: Literal["random_rotate"] = "random_rotate"
    degrees: Annotated[EitherWay, Field(description="Either way; or from one angle to another.")]

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Turn."""
        angle = math.radians(between(self.degrees, draws[0]))
        cosine, sine = math.cos(angle), math.sin(angle)
        return centred(cosine, -sine, sine, cosine, height, width)


class RandomShift(Warping):
    """Move to the right and down, each by a random part of the picture, or by so many pixels.

    A range whose ends are both less than 1 is a share of the width, or of the height; any other is in pixels.
    """

    draws: ClassVar[int] = 3
    kind: Literal["random_shift"] = "random_shift"
    horizontal: Annotated[EitherWay, Field(description="To the right: a share of the width below 1, else pixels.")] = (
        0.0,
        0.0,
    )
    vertical: Annotated[EitherWay, Field(description="Down: a share of the height below 1, else pixels.")] = (0.0, 0.0)

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Move."""
        right, down = _pixels(self.horizontal, width, draws[0]), _pixels(self.vertical, height, draws[1])
        return Warp(cut(-down, -right))


def _pixels(pair: tuple[float, float], size: int, draw: float) -> float:
    share = max(map(abs, pair)) < 1
    return between(pair, draw) * (size if share else 1)


def _below_upright(pair: tuple[float, float]) -> tuple[float, float]:
    if max(map(abs, pair)) >= 90:
        raise ValueError(f"{pair} degrees: expected less than 90, at which a picture is a line")
    return pair


Lean = Annotated[EitherWay, AfterValidator(_below_upright)]


class RandomShear(Warping):
    """Lean by random angles: above 0, the top leans to the right, and the right side upwards."""

    draws: ClassVar[int] = 3
    kind: Literal["random_shear"] = "random_shear"
    horizontal: Annotated[Lean, Field(description="Degrees by which upright lines lean.")] = (0.0, 0.0)
    vertical: Annotated[Lean, Field(description="Degrees by which level lines rise.")] = (0.0, 0.0)

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Lean."""
        across = math.tan(math.radians(between(self.horizontal, draws[0])))
        up = math.tan(math.radians(between(self.vertical, draws[1])))
        lean = centred(1.0, across, 0.0, 1.0, height, width).matrix
        return Warp(product(lean, centred(1.0, 0.0, up, 1.0, height, width).matrix))


def _around_one(given: object) -> object:
    """Return a range of factors: from 0.8 to 1.2, if it is told as 0.2."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        return given
    if not 0 <= given < 1:
        raise ValueError("expected a number of at least 0 and below 1, or two: the least and the largest factor")
    return 1 - given, 1 + given


def _not_nothing(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"{pair} is no range of factors: expected more than 0")
    return pair


Factors = Annotated[
    tuple[float, float],
    BeforeValidator(_around_one),
    AfterValidator(ordered),
    AfterValidator(_not_nothing),
    WithJsonSchema(ONE_OR_TWO),
]


class RandomZoom(Warping):
    """Make what is seen larger by a random factor, or smaller by one below 1; the picture keeps its size."""

    draws: ClassVar[int] = 3
    kind: Literal["random_zoom"] = "random_zoom"
    zoom: Annotated[Factors, Field(description="About 1: 0.2 is 0.8 to 1.2; or the least and the largest factor.")]
    per_axis: bool = Field(False, description="Whether height and width have factors of their own.")

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Zoom."""
        by_height = between(self.zoom, draws[0])
        by_width = between(self.zoom, draws[1]) if self.per_axis else by_height
        return centred(1 / by_width, 0.0, 0.0, 1 / by_height, height, width)
