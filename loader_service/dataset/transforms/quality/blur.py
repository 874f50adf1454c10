"""Blur and sharpen pictures."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.picture import RandomPicture, RangedPicture, clip
from loader_service.dataset.transforms.ranges import Amount, Factor, Pair, between

LEAST_SIGMA = 0.1  # pixels: below it, a neighbour weighs less than 1e-21
REACH = 3  # standard deviations on either side of a pixel that are looked at: all but 0.3 % of the weight


class RandomBlur(RandomPicture):
    """Blur with a Gaussian of random standard deviation; edges are mirrored, as in torchvision."""

    draws: ClassVar[int] = 2
    changes_alpha: ClassVar[bool] = True
    kind: Literal["random_blur"] = "random_blur"
    sigma: Annotated[Amount, Field(description="Standard deviation, in pixels.")] = (0.1, 2.0)

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        sigma = between(self.sigma, numbers[0])
        reach = round(REACH * sigma)
        if sigma < LEAST_SIGMA or not reach:
            np.copyto(out, picture)
            return
        size = (2 * reach + 1, 2 * reach + 1)
        cv2.GaussianBlur(picture, size, sigma, dst=out, borderType=cv2.BORDER_REFLECT_101)


class RandomSharpness(RangedPicture):
    """Blend with a smoothed picture by a random factor: 0 is smooth, 1 the picture itself, above 1 is sharper.

    Source: Pillow's ImageEnhance.Sharpness, whose smoothing leaves the outermost pixels alone.
    """

    draws: ClassVar[int] = 2
    kind: Literal["random_sharpness"] = "random_sharpness"
    factor: Factor

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        sharpen(picture, between(self.factor, numbers[0]), out, self.bounds(picture))


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def sharpen(picture: np.ndarray, factor: float, out: np.ndarray, bounds: Pair) -> None:
    """Blend with a smoothed picture, by a factor."""
    inner = (slice(1, -1), slice(1, -1))
    if out is not picture:
        np.copyto(out, picture)
    if min(picture.shape[:2]) < 3:
        return
    smooth = cv2.filter2D(picture, -1, _SMOOTH).reshape(picture.shape)
    blended = cv2.addWeighted(picture, factor, smooth, 1 - factor, 0).reshape(picture.shape)
    out[inner] = blended[inner]
    clip(out, bounds)
