"""Volumes changed at random, together with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.chained.turns import warn_of_turns
from loader_service.dataset.transforms.patch import CenterPatch
from loader_service.dataset.transforms.volumes import RandomVolumeFlip, RandomVolumeRot90, RandomVolumeRotation

Field = str | Sequence[str]


class VolumeTransforms(Declared):
    """Of volumes (depth, height, width), or with channels behind; several fields are changed by one draw."""

    def center_patch(self, size: Sequence[int], *, field: Field = "image") -> Self:
        """Cut `size` out of the middle of the first axes, of all fields that are named."""
        return self._then(CenterPatch, size=size, field=field)

    def random_volume_flip(self, probability: float | tuple[float, float, float] = 0.5, *, field: Field = "x") -> Self:
        """Mirror along each axis, with its probability: one for all, or those of depth, height and width."""
        return self._then(RandomVolumeFlip, probability=probability, field=field)

    def random_volume_rot90(self, axes: tuple[int, int] = (1, 2), *, field: Field = "x") -> Self:
        """Turn by 0, 90, 180 or 270 degrees in the plane of two axes, whose sides must be as long: crop first."""
        return self._then(RandomVolumeRot90, axes=axes, field=field)

    def random_volume_rotation(
        self,
        degrees: float = 15.0,
        *,
        axis: int = 0,
        fill_mode: Literal["constant", "nearest", "reflect"] = "constant",
        value: float = 0.0,
        field: Field = "x",
        masks: Sequence[str] = (),
    ) -> Self:
        """Turn about one axis by any angle; shapes stay.

        Interpolation is linear in the plane that turns, which is trilinear: along the axis nothing moves.

        Args:
            degrees: To either side, at most.
            axis: That stays: 0 depth, 1 height, 2 width.
            fill_mode: What comes from outside: "constant", which is `value`, "nearest" or "reflect".
            value: With "constant"; in masks it is 0.
            masks: Those of the fields whose numbers are classes: of them the nearest voxel is taken, as it is of all
                dtypes but uint8, uint16, int16, float32 and float64.
        """
        warn_of_turns("random_volume_rotation", "degrees", degrees)
        return self._then(
            RandomVolumeRotation,
            degrees=degrees,
            axis=axis,
            fill_mode=fill_mode,
            value=value,
            field=field,
            masks=masks,
        )
