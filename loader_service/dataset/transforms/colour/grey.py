"""Pictures without colour: of one channel, or of three equal ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.picture import ALPHA, PictureTransform, RandomPicture
from loader_service.dataset.transforms.ranges import Probability
from loader_service.dataset.transforms.transform import Draws
from loader_service.protocol.spec import FieldSpec


class Grayscale(PictureTransform):
    """0.299 red + 0.587 green + 0.114 blue, as one channel or as three; alpha is dropped."""

    needs_colour: ClassVar[bool] = True
    kind: Literal["grayscale"] = "grayscale"
    channels: Annotated[Literal[1, 3], Field(description="Of the grey picture.")] = 1

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Replace the channels."""
        declared = super().declare_field(field)
        return replace(declared, shape=(*declared.shape[:2], self.channels))

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Make a picture grey."""
        shape = (*value.shape[:2], self.channels)
        if out is None or out.shape != shape:
            out = np.empty(shape, value.dtype)
        _grey(value, out)
        return out


class RandomGrayscale(RandomPicture):
    """Make pictures grey, at random, and leave them their channels."""

    needs_colour: ClassVar[bool] = True
    kind: Literal["random_grayscale"] = "random_grayscale"
    probability: Probability = 0.1

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        _grey(picture, out)


def _grey(picture: np.ndarray, out: np.ndarray) -> None:
    code = cv2.COLOR_RGBA2GRAY if picture.shape[2] == ALPHA else cv2.COLOR_RGB2GRAY
    if out.shape[2] == 1:
        cv2.cvtColor(picture, code, dst=out)
    else:
        cv2.cvtColor(cv2.cvtColor(picture, code), cv2.COLOR_GRAY2RGB, dst=out)
