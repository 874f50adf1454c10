"""Brightness, contrast, saturation and hue at random: each by itself, and all of them in one pass."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from loader_service.dataset.transforms.colour.adjust import HueSpace, adjust, multiply
from loader_service.dataset.transforms.picture import BYTE, RangedPicture
from loader_service.dataset.transforms.ranges import Factor, Pair, Turn, between
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

SAME: Pair = (1.0, 1.0)
STILL: Pair = (0.0, 0.0)
Space = Annotated[HueSpace, Field(description='"hsv", as elsewhere; or "yiq", one matrix for all, much faster.')]


class RandomBrightness(RangedPicture):
    """Multiply by a random factor: 0 is black, 1 the picture itself."""

    draws: ClassVar[int] = 2
    kind: Literal["random_brightness"] = "random_brightness"
    factor: Factor

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        factor = between(self.factor, numbers[0])
        if picture.dtype == BYTE:  # black is zero: nothing else is to be told apart
            multiply(picture, factor, out)
        else:
            adjust(picture, out, self.bounds(picture), brightness=factor)


class RandomContrast(RangedPicture):
    """Blend with the mean grey by a random factor: 0 is that grey, 1 the picture itself."""

    draws: ClassVar[int] = 2
    kind: Literal["random_contrast"] = "random_contrast"
    factor: Factor

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        adjust(picture, out, self.bounds(picture), contrast=between(self.factor, numbers[0]))


class RandomSaturation(RangedPicture):
    """Blend with the grey picture by a random factor: 0 is grey, 1 the picture itself."""

    draws: ClassVar[int] = 2
    needs_colour: ClassVar[bool] = True
    kind: Literal["random_saturation"] = "random_saturation"
    factor: Factor

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        adjust(picture, out, self.bounds(picture), saturation=between(self.factor, numbers[0]))


class RandomHue(RangedPicture):
    """Turn all hues by a random share of the full circle, from -0.5 to 0.5."""

    draws: ClassVar[int] = 2
    needs_colour: ClassVar[bool] = True
    kind: Literal["random_hue"] = "random_hue"
    factor: Turn
    hue_space: Space = "hsv"

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        turn = between(self.factor, numbers[0])
        adjust(picture, out, self.bounds(picture), hue=turn, hue_space=self.hue_space)


class ColorJitter(RangedPicture):
    """Brightness, contrast, saturation and hue at random, in one pass; values are cut off once, at its end."""

    draws: ClassVar[int] = 5
    kind: Literal["color_jitter"] = "color_jitter"
    brightness: Factor = SAME
    contrast: Factor = SAME
    saturation: Factor = SAME
    hue: Turn = STILL
    hue_space: Space = "hsv"

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if (self.brightness, self.contrast, self.saturation, self.hue) == (SAME, SAME, SAME, STILL):
            raise ValueError("nothing is jittered: give brightness, contrast, saturation or hue, as in brightness=0.2")
        return self

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep shape and dtype."""
        declared = super().declare_field(field)
        if field.shape[-1] == 1 and (self.saturation, self.hue) != (SAME, STILL):
            raise DatasetError(
                f"color_jitter: field {self.field!r} is {field}, and grey has no colour: leave saturation and hue out"
            )
        return declared

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        brightness, contrast, saturation, hue = numbers
        adjust(
            picture,
            out,
            self.bounds(picture),
            between(self.brightness, brightness),
            between(self.contrast, contrast),
            between(self.saturation, saturation),
            between(self.hue, hue),
            self.hue_space,
        )
