"""RandAugment: some operations out of fourteen, at one magnitude.

Source: Cubuk et al., "RandAugment", 2019. The ranges of the magnitudes, 0 to 30, are those of torchvision, and so
are the operations: identity, shear, translate, rotate, brightness, color, contrast, sharpness, posterize, solarize,
autocontrast and equalize.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.colour.adjust import adjust
from loader_service.dataset.transforms.colour.tables import autocontrast, equalize, posterize, solarize
from loader_service.dataset.transforms.picture import RandomPicture
from loader_service.dataset.transforms.quality.blur import sharpen
from loader_service.dataset.transforms.ranges import Pair

MOST_MAGNITUDE = 30
MOST_OPERATIONS = 8
BYTES: Pair = (0.0, 255.0)
GEOMETRY = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOURS = ("brightness", "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize")
OPERATIONS = ("identity", *GEOMETRY, *COLOURS)


class RandAugment(RandomPicture):
    """Do `num_ops` operations, drawn anew for each sample, one after the other."""

    draws: ClassVar[int] = 2 * MOST_OPERATIONS + 1
    changes_alpha: ClassVar[bool] = False
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    kind: Literal["rand_augment"] = "rand_augment"
    num_ops: Annotated[int, Field(ge=1, le=MOST_OPERATIONS, description="Operations on each sample.")] = 2
    magnitude: Annotated[float, Field(ge=0, le=MOST_MAGNITUDE, description="0, none, to 30.")] = 9
    fill: Annotated[int, Field(ge=0, le=255, description="What stands where nothing is, at the edges.")] = 0

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        if out is not picture:
            np.copyto(out, picture)
        for number in range(self.num_ops):
            which, sign = numbers[2 * number : 2 * number + 2]
            operate(OPERATIONS[int(which * len(OPERATIONS))], out, self.magnitude, sign < 0.5, self.fill)


def operate(operation: str, picture: np.ndarray, magnitude: float, negative: bool, fill: int) -> None:
    """Do one operation, in place.

    Args:
        magnitude: 0 to 30.
        negative: Turn round what has two directions.
    """
    share = magnitude / MOST_MAGNITUDE
    factor = 1 + (-0.9 if negative else 0.9) * share
    match operation:
        case "identity":
            pass
        case "brightness":
            adjust(picture, picture, BYTES, brightness=factor)
        case "contrast":
            adjust(picture, picture, BYTES, contrast=factor)
        case "color":
            if picture.shape[2] > 1:
                adjust(picture, picture, BYTES, saturation=factor)
        case "sharpness":
            sharpen(picture, factor, picture, BYTES)
        case "posterize":
            posterize(picture, 8 - round(4 * share), picture)
        case "solarize":
            solarize(picture, 255 * (1 - share), picture, BYTES)
        case "autocontrast":
            autocontrast(picture, picture, BYTES)
        case "equalize":
            equalize(picture, picture)
        case _:
            _warp(operation, picture, -share if negative else share, fill)


def _warp(operation: str, picture: np.ndarray, share: float, fill: int) -> None:
    """Move pixels to where an affine map sends them; nearest neighbours, as in torchvision."""
    height, width = picture.shape[:2]
    a, b, c, d, right, down = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    match operation:
        case "shear_x":
            b, centre_x, centre_y = 0.3 * share, 0.0, 0.0
        case "shear_y":
            c, centre_x, centre_y = 0.3 * share, 0.0, 0.0
        case "translate_x":
            right = float(int(150 / 331 * width * share))
        case "translate_y":
            down = float(int(150 / 331 * height * share))
        case "rotate":
            angle = math.radians(30 * share)
            a, b, c, d = math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)
    matrix = np.array(
        [
            [a, b, centre_x - a * centre_x - b * centre_y + right],
            [c, d, centre_y - c * centre_x - d * centre_y + down],
        ]
    )
    moved = cv2.warpAffine(
        picture,
        matrix,
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill,) * 4,
    )
    np.copyto(picture, moved.reshape(picture.shape))
