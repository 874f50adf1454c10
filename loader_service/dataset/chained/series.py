"""Recordings changed at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.transforms.series import RandomJitter, RandomScale, RandomTimeWarp, RandomWindow


class SeriesTransforms(Declared):
    """The first axis of a series is time, further ones are channels."""

    def random_window(self, length: int, *, field: str | Sequence[str] = "x") -> Self:
        """Cut `length` steps out of anywhere, the same ones of all fields that are named; lengths may differ."""
        return self._then(RandomWindow, length=length, field=field)

    def random_jitter(self, std: float = 0.05, *, field: str = "x") -> Self:
        """Add normal noise of deviation `std` to each number, in units of the series: float32 or float64."""
        return self._then(RandomJitter, std=std, field=field)

    def random_scale(self, std: float = 0.1, *, per_channel: bool = True, field: str = "x") -> Self:
        """Multiply each channel (entry of the last axis) by a normal number around 1, of deviation `std`.

        Args:
            per_channel: False: one number for all of a recording.
        """
        return self._then(RandomScale, std=std, per_channel=per_channel, field=field)

    def random_time_warp(self, std: float = 0.2, *, knots: int = 6, field: str | Sequence[str] = "x") -> Self:
        """Let time run faster here and slower there, in all fields that are named alike; the length stays.

        Floats are interpolated linearly; of whole numbers and bools, such as labels of steps, the nearest is taken.

        Args:
            std: Of the logarithm of speed: with 0.2, two thirds of the speeds lie between 0.8 and 1.2.
            knots: Places, evenly apart, at which speed is drawn; between them it changes linearly.
        """
        return self._then(RandomTimeWarp, std=std, knots=knots, field=field)
