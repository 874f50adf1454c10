"""What JPEG leaves of a picture."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import simplejpeg
from pydantic import Field, model_validator

from loader_service.dataset.transforms.picture import RandomPicture
from loader_service.dataset.transforms.ranges import Amount, between


class RandomJpeg(RandomPicture):
    """Write and read each picture as a JPEG of random quality: blocks, ringing, colours at half the resolution."""

    draws: ClassVar[int] = 2
    dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    kind: Literal["random_jpeg"] = "random_jpeg"
    quality: Annotated[Amount, Field(description="1, the worst, to 100.")] = (50, 100)

    @model_validator(mode="after")
    def _qualities(self) -> Self:
        if not (self.quality[0] >= 1 and self.quality[1] <= 100):
            raise ValueError(f"quality {self.quality} is no range of 1 .. 100")
        return self

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        low, high = self.quality
        quality = int(between((low, high + 1), numbers[0]))  # each whole number alike
        colours, sampling = ("GRAY", "Gray") if picture.shape[2] == 1 else ("RGB", "420")
        written = simplejpeg.encode_jpeg(
            np.ascontiguousarray(picture), min(quality, 100), colorspace=colours, colorsubsampling=sampling
        )
        simplejpeg.decode_jpeg(written, colorspace=colours, buffer=out)
