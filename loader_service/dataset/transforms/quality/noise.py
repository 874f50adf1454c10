"""Gaussian noise, out of counters: a number for each value, that depends on the sample alone.

    64 bits of a counter -> four whole numbers of 16 bits -> the quantile of the normal distribution at each

So noise is a pure function of the sample's own draws, and several times faster than a generator's normal numbers. The
65,536 quantiles reach 4.3 standard deviations; a real normal number goes beyond that once in 60,000 times.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.draws import mix
from loader_service.dataset.transforms.picture import BYTE, RangedPicture, clip
from loader_service.dataset.transforms.ranges import Amount, between
from loader_service.dataset.transforms.scratch import scratch

QUANTILES = 1 << 16
BLOCK = 1 << 15  # numbers that are made at once: few enough to stay in the cache; a multiple of four


class RandomNoise(RangedPicture):
    """Add Gaussian noise of a random standard deviation, another number for each value of each channel."""

    draws: ClassVar[int] = 3
    kind: Literal["random_noise"] = "random_noise"
    std: Annotated[Amount, Field(description="Standard deviation, in the picture's own units: levels of bytes.")]

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        std, seed = between(self.std, numbers[0]), int(numbers[1] * (1 << 53))
        noise = scratch("noise", picture.shape, np.float32)
        fill_normals(noise.reshape(-1), seed)
        depth = cv2.CV_8U if picture.dtype == BYTE else cv2.CV_32F
        cv2.addWeighted(picture, 1, noise, std, 0, dst=out, dtype=depth)
        clip(out, self.bounds(picture))


def fill_normals(out: NDArray[np.float32], seed: int) -> None:
    """Fill an array of one axis with normal numbers of mean 0 and deviation 1."""
    for start in range(0, len(out), BLOCK):
        part = out[start : start + BLOCK]
        counters = np.arange(start // 4 + 1, start // 4 + 1 - (-len(part) // 4), dtype=np.uint64)
        bits = mix(counters, seed).view(np.uint16)[: len(part)]
        np.take(_quantiles(), bits, out=part, mode="clip")  # clip: none can be outside, and NumPy need not look


def normals_of(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the normal number for each whole number of 16 bits."""
    return np.take(_quantiles(), bits, mode="clip")


@cache
def _quantiles() -> NDArray[np.float32]:
    """Return the middle of each of the equally likely parts of the normal distribution; they are symmetric."""
    normal = NormalDist()
    upper = [normal.inv_cdf((k + 0.5) / QUANTILES) for k in range(QUANTILES // 2, QUANTILES)]
    return np.array([*(-number for number in reversed(upper)), *upper], np.float32)
