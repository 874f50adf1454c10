"""Steps that give each value another one, whatever its place: by a table where pixels are bytes.

Source: Pillow's ImageOps, for what solarize, posterize, equalize, autocontrast and invert are; as in torchvision.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from loader_service.dataset.transforms.picture import BYTE, RandomPicture, RangedPicture, clip
from loader_service.dataset.transforms.ranges import Factor, Pair, Probability, between

BYTES = np.arange(256)
SHARES = (BYTES / 255).astype(np.float32)


class RandomGamma(RangedPicture):
    """Raise to a random power, in 0 .. 1: below 1 brightens what is dark, above 1 darkens it."""

    draws: ClassVar[int] = 2
    kind: Literal["random_gamma"] = "random_gamma"
    gamma: Factor

    @model_validator(mode="after")
    def _above_zero(self) -> Self:
        if self.gamma[0] <= 0:
            raise ValueError(f"gamma {self.gamma} must be above 0")
        return self

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        gamma = between(self.gamma, numbers[0])
        if picture.dtype == BYTE:
            cv2.LUT(picture, cv2.convertScaleAbs(cv2.pow(SHARES, gamma), alpha=255), dst=out)
            return
        low, high = self.bounds(picture)
        width = np.float32(high - low)
        np.subtract(picture, np.float32(low), out=out)
        np.multiply(out, 1 / width, out=out)
        clip(out, (0, 1))
        cv2.pow(out, gamma, dst=out)
        np.multiply(out, width, out=out)
        np.add(out, np.float32(low), out=out)


class RandomSolarize(RangedPicture):
    """Invert, at random, all values from a threshold on."""

    kind: Literal["random_solarize"] = "random_solarize"
    threshold: Annotated[
        float | None,
        Field(description="In the picture's own units; the middle of its range, 128 of bytes, if not said."),
    ] = None
    probability: Probability = 0.5

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        solarize(picture, self.threshold, out, self.bounds(picture))


def solarize(picture: np.ndarray, threshold: float | None, out: np.ndarray, bounds: Pair) -> None:
    """Invert values from a threshold on; from the middle on, where it is None."""
    low, high = bounds
    if picture.dtype == BYTE:
        # Inverting a byte flips its bits: so where the comparison is 255, and not where it is 0.
        least = 128 if threshold is None else int(np.ceil(np.clip(threshold, 0, 256)))
        _, flips = cv2.threshold(picture, least - 1, 255, cv2.THRESH_BINARY)
        cv2.bitwise_xor(picture, flips.reshape(picture.shape), dst=out)
        return
    middle = (low + high) / 2 if threshold is None else threshold
    inverted = np.float32(low + high) - picture
    np.copyto(out, np.where(picture >= np.float32(middle), inverted, picture))


class RandomPosterize(RandomPicture):
    """Keep, at random, the highest bits of each value alone."""

    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    kind: Literal["random_posterize"] = "random_posterize"
    bits: Annotated[int, Field(ge=1, le=8, description="That are kept.")]
    probability: Probability = 0.5

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        posterize(picture, self.bits, out)


def posterize(picture: np.ndarray, bits: int, out: np.ndarray) -> None:
    """Keep the highest bits of bytes."""
    np.bitwise_and(picture, np.uint8(256 - (1 << (8 - bits))), out=out)


class RandomEqualize(RandomPicture):
    """Spread, at random, the values of each channel so that all are about equally frequent."""

    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    kind: Literal["random_equalize"] = "random_equalize"
    probability: Probability = 0.5

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        equalize(picture, out)


def equalize(picture: np.ndarray, out: np.ndarray) -> None:
    """Equalize the histogram of each channel of bytes, as Pillow's ImageOps.equalize does, to the byte."""
    channels = range(picture.shape[2])
    counts = np.stack([cv2.calcHist([picture], [each], None, [256], (0, 256)).reshape(-1) for each in channels])
    counts = counts.astype(np.int64)
    most = 255 - np.argmax(counts[:, ::-1] > 0, axis=1)  # the largest value that there is
    step = (counts.sum(axis=1) - counts[channels, most])[:, None] // 255
    below = np.cumsum(counts, axis=1) - counts
    tables = np.minimum((step // 2 + below) // np.maximum(step, 1), 255)
    _look_up(picture, np.where(step > 0, tables, BYTES).T.astype(np.uint8), out)


def _look_up(picture: np.ndarray, tables: np.ndarray, out: np.ndarray) -> None:
    """Look each channel up in a table of its own, (256, channels)."""
    cv2.LUT(picture, np.ascontiguousarray(tables)[None] if picture.shape[2] > 1 else tables[:, 0], dst=out)


class RandomAutocontrast(RangedPicture):
    """Stretch, at random, each channel so that its darkest value is black and its lightest white."""

    kind: Literal["random_autocontrast"] = "random_autocontrast"
    probability: Probability = 0.5

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        autocontrast(picture, out, self.bounds(picture))


def autocontrast(picture: np.ndarray, out: np.ndarray, bounds: Pair) -> None:
    """Stretch each channel to the whole range; one of a single value stays what it is."""
    low, high = bounds
    lines = picture.reshape(len(picture), -1)  # the least of whole lines first: much faster than of every third number
    channels = picture.shape[2]
    least = lines.min(axis=0).reshape(-1, channels).min(axis=0).tolist()
    most = lines.max(axis=0).reshape(-1, channels).max(axis=0).tolist()
    matrix = np.zeros((channels, channels + 1))
    for channel, (dark, light) in enumerate(zip(least, most, strict=True)):
        scale = (high - low) / (light - dark) if light > dark else 1
        matrix[channel, channel] = scale
        matrix[channel, channels] = low - dark * scale if light > dark else 0
    cv2.transform(picture, matrix, dst=out)
    clip(out, bounds)


class RandomInvert(RangedPicture):
    """Turn, at random, black into white."""

    kind: Literal["random_invert"] = "random_invert"
    probability: Probability = 0.5

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        if picture.dtype == BYTE:
            cv2.bitwise_not(picture, dst=out)
        else:
            np.subtract(np.float32(sum(self.bounds(picture))), picture, out=out)
