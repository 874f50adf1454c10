"""Add a random number to each channel."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from loader_service.dataset.transforms.picture import RangedPicture, clip
from loader_service.dataset.transforms.ranges import Shift, between


class RandomChannelShift(RangedPicture):
    """Add a random number to each channel; or one to all, as Keras' channel_shift_range does.

    Keras then cuts values off at the picture's own least and largest one, and so does this with per_channel=False.
    """

    draws: ClassVar[int] = 4
    kind: Literal["random_channel_shift"] = "random_channel_shift"
    shift: Annotated[Shift, Field(description="In the picture's own units: levels of bytes.")]
    per_channel: Annotated[bool, Field(description="A number for each channel; else one for all.")] = True

    def change(self, picture: np.ndarray, numbers: list[float], out: np.ndarray) -> None:
        """Change one picture."""
        channels = picture.shape[2]
        if not self.per_channel:
            lines = picture.reshape(len(picture), -1)
            least, most = lines.min(), lines.max()  # before `out` is written, which may be the picture
            cv2.add(picture, (between(self.shift, numbers[0]),) * 4, dst=out)
            np.clip(out, least, most, out=out)
            return
        shifts = [between(self.shift, number) for number in numbers[:channels]]
        matrix = np.zeros((channels, channels + 1))
        np.fill_diagonal(matrix, 1)
        matrix[:, channels] = shifts
        cv2.transform(picture, matrix, dst=out)
        clip(out, self.bounds(picture))
