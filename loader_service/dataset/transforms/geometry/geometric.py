"""What a geometric step is: it tells its moves; a run of such steps is one placement, and one drawing."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from loader_service.dataset.transforms.geometry.drawing import (
    FillMode,
    Interpolation,
    KnownFillMode,
    Look,
    Smooth,
    drawn,
)
from loader_service.dataset.transforms.geometry.moves import Cuts, Mirrors, Move
from loader_service.dataset.transforms.geometry.opencv import DTYPES, SMOOTH_DTYPES
from loader_service.dataset.transforms.geometry.placement import placed
from loader_service.dataset.transforms.transform import ColumnDraws, Draws, FieldTransform, Pixels, image_field
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec


class Geometric(FieldTransform):
    """A step that moves the pixels of pictures, and changes no values.

    Where it resamples, it has an interpolation; where it looks outside of the picture, it has a fill mode. What it has
    not, it does not mind: steps are fused where all that mind say the same.
    """

    alone: ClassVar[bool] = False  # it is fused with no other step
    bends: ClassVar[bool] = False  # its moves are more than matrices
    scales: ClassVar[bool] = False  # it shows all of a picture in another size
    chooses: ClassVar[bool] = False  # it shows a part of a picture, mirrored or not, and tells so of many at once

    @property
    def resampling(self) -> tuple[Interpolation, bool] | None:
        """How pixels are made of others, and whether they are antialiased; None where they are only moved."""
        return None

    @property
    def filling(self) -> tuple[FillMode, float] | None:
        """What lies outside of the picture; None where nothing outside is looked at."""
        return None

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Return what happens to a picture of this size, in pixels."""
        raise NotImplementedError(f"{type(self).__name__} must tell its moves")

    def moves_of_many(self, height: int, width: int, draws: ColumnDraws) -> Cuts | Mirrors:
        """Return the same for many pictures of this size, where that is what it does."""
        raise NotImplementedError(f"{type(self).__name__} tells its moves one by one")

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep the shape, where OpenCV can interpolate the dtype."""
        image_field(self, field)
        if self.resampling is None:
            return field
        allowed = DTYPES if self.resampling[0] == "nearest" else SMOOTH_DTYPES
        if field.dtype not in allowed:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected one of {allowed}: cast it first"
            )
        return field

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Draw one picture."""
        height, width = value.shape[:2]
        return drawn(value, placed(height, width, self.moves(height, width, draws)), look_of(self), out)


def look_of(*steps: Geometric) -> Look:
    """Return how steps that say the same are drawn together."""
    resampling = next((step.resampling for step in steps if step.resampling is not None), ("bilinear", True))
    fill_mode, fill_value = next((step.filling for step in steps if step.filling is not None), ("nearest", 0.0))
    return Look(*resampling, fill_mode, fill_value)


class ToSize(Geometric):
    """A step after which every picture has the same height and width."""

    height: Pixels
    width: Pixels

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Replace height and width."""
        *_, channels = image_field(self, super().declare_field(field))
        return FieldSpec((self.height, self.width, channels), field.dtype)


class Resampling(Geometric):
    """A step that makes pixels of several others, in another size."""

    interpolation: Interpolation = "bilinear"
    antialias: bool = Field(True, description="Whether scaling down by more than two takes all pixels into account.")

    @property
    def resampling(self) -> tuple[Interpolation, bool]:
        """As it is declared."""
        return self.interpolation, self.antialias

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Refuse what OpenCV has no area interpolation for."""
        declared = super().declare_field(field)
        if self.interpolation == "area" and declared.room[2] > 4:
            raise DatasetError(
                f'{self.kind}: field {self.field!r} is {field}: interpolation="area" takes at most 4 channels'
            )
        return declared


class Warping(Geometric):
    """A step that looks for its pixels between those of the picture, and outside of it; sometimes, if that is said."""

    interpolation: Smooth = "bilinear"
    fill_mode: KnownFillMode = "nearest"
    fill_value: float = Field(0.0, description='What lies outside, with fill_mode "constant".')
    probability: Annotated[float, Field(ge=0, le=1, description="Of happening at all.")] = 1.0

    @property
    def resampling(self) -> tuple[Interpolation, bool]:
        """As it is declared; always antialiased."""
        return self.interpolation, True

    @property
    def filling(self) -> tuple[FillMode, float]:
        """As it is declared; there is no value where none is used."""
        return self.fill_mode, self.fill_value if self.fill_mode == "constant" else 0.0

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Happen, or not: the first draw decides."""
        happens, *others = draws
        return (self.warp(height, width, others),) if happens < self.probability else ()

    def warp(self, height: int, width: int, draws: Draws) -> Move:
        """Return what happens, if it does."""
        raise NotImplementedError(f"{type(self).__name__} must tell what happens")


def _either_way(given: Any) -> Any:
    """Return a range: from -20 to 20, if it is told as 20."""
    return (-given, given) if isinstance(given, int | float) and not isinstance(given, bool) else given


def ordered(pair: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose ends do not rise."""
    low, high = pair
    if low > high:
        raise ValueError(f"{pair} is no range: expected one number of at least 0, or two, low <= high")
    return pair


ONE_OR_TWO: dict[str, Any] = {  # numbers, in a file
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    ]
}
EitherWay = Annotated[
    tuple[float, float], BeforeValidator(_either_way), AfterValidator(ordered), WithJsonSchema(ONE_OR_TWO)
]
