"""What is done to volumes, (depth, height, width) or with channels behind, and to their masks: one draw for all.

Crops are those of `random_patch`, which counts any number of axes.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from loader_service.dataset.draws import row_of_uniforms
from loader_service.dataset.transforms.geometry.drawing import Look, by_matrix
from loader_service.dataset.transforms.geometry.moves import centred
from loader_service.dataset.transforms.geometry.opencv import AT_ONCE, LARGEST, SMOOTH_DTYPES
from loader_service.dataset.transforms.transform import Names, Sample, SampleTransform, field_of, names_of
from loader_service.protocol.errors import DatasetError, nearest
from loader_service.protocol.spec import FieldSpec, Spec

Axis = Annotated[int, Field(ge=0, le=2)]
MOVED = {1: np.uint8, 2: np.uint16, 4: np.float32, 8: np.float64}  # bytes of a number -> what OpenCV can move about


def _probabilities(said: object) -> object:
    each = said if isinstance(said, list | tuple) else (said,) * 3
    if len(each) != 3 or not all(isinstance(p, float | int) and 0 <= p <= 1 for p in each):
        raise ValueError("expected a probability in 0 .. 1, or three, of depth, height and width")
    return said


class _OfVolumes(SampleTransform):
    """A step that does the same to several volumes of one size."""

    draws: ClassVar[int]

    field: Annotated[
        Names, Field(description="A field, or a list of those that are changed alike, such as a scan and its mask.")
    ] = "x"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields that are changed."""
        return names_of(self.field)

    @property
    def is_random(self) -> bool:
        """It draws."""
        return True

    def declare(self, spec: Spec) -> Spec:
        """Keep shapes and dtypes."""
        for name in self.fields:
            found = field_of(self.kind, spec, name)
            if len(found.shape) not in (3, 4) or found.form != "dense":
                raise DatasetError(
                    f"{self.kind}: field {name!r} is {found}, expected a volume (depth, height, width), or one with "
                    "channels behind"
                )
            self.check(name, found)
        return spec

    def check(self, name: str, field: FieldSpec) -> None:
        """Refuse what the step cannot change."""

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Change the fields of one sample."""
        first, *others = self.fields
        extent = np.shape(sample[first])[:3]
        for name in others:
            if np.shape(sample[name])[:3] != extent:
                raise DatasetError(
                    f"{self.kind}: field {name!r} is {np.shape(sample[name])[:3]} and field {first!r} {extent}: "
                    "expected volumes of one size"
                )
        draws = row_of_uniforms(key, position, self.draws)
        return {**sample, **{name: self.changed(name, np.asarray(sample[name]), draws) for name in self.fields}}

    def changed(self, name: str, volume: np.ndarray, draws: list[float]) -> np.ndarray:
        """Return a volume as these numbers have it."""
        raise NotImplementedError(f"{type(self).__name__} must change volumes")


class RandomVolumeFlip(_OfVolumes):
    """Mirror along each axis, with a probability of its own."""

    draws: ClassVar[int] = 3
    kind: Literal["random_volume_flip"] = "random_volume_flip"
    probability: Annotated[
        float | tuple[float, float, float],
        BeforeValidator(_probabilities),
        Field(description="For each axis: depth, height, width; or one number for all."),
    ] = 0.5

    def changed(self, name: str, volume: np.ndarray, draws: list[float]) -> np.ndarray:
        """Return a mirrored view."""
        each = self.probability if isinstance(self.probability, tuple) else (self.probability,) * 3
        return volume[tuple(slice(None, None, -1 if draw < p else 1) for draw, p in zip(draws, each, strict=True))]


class RandomVolumeRot90(_OfVolumes):
    """Turn by 0, 90, 180 or 270 degrees in the plane of two axes, each as often."""

    draws: ClassVar[int] = 1
    kind: Literal["random_volume_rot90"] = "random_volume_rot90"
    axes: Annotated[tuple[Axis, Axis], Field(description="Of the plane; its two sides must be as long.")] = (1, 2)

    @field_validator("axes")
    @classmethod
    def _two(cls, axes: tuple[int, int]) -> tuple[int, int]:
        if axes[0] == axes[1]:
            raise ValueError("expected two axes that differ: 0 depth, 1 height, 2 width")
        return axes

    def check(self, name: str, field: FieldSpec) -> None:
        """Refuse a plane that is not square: turned, it would have another shape."""
        sides = tuple(field.shape[axis] for axis in self.axes)
        if sides[0] != sides[1]:
            raise DatasetError(
                f"{self.kind}: field {name!r} is {field}, whose axes {self.axes} are {sides}: expected a square, "
                "as random_patch cuts them"
            )

    def changed(self, name: str, volume: np.ndarray, draws: list[float]) -> np.ndarray:
        """Return a turned view."""
        if volume.shape[self.axes[0]] != volume.shape[self.axes[1]]:
            raise DatasetError(f"{self.kind}: field {name!r} is {volume.shape}: axes {self.axes} are no square")
        return np.rot90(volume, int(draws[0] * 4), self.axes)


class RandomVolumeRotation(_OfVolumes):
    """Turn about one axis, by any angle; shapes stay, and what comes from outside is filled.

    Pictures are interpolated linearly in the plane that turns, slice by slice: along the axis nothing moves, so this is
    trilinear interpolation. Masks take the nearest voxel; so does every field of a dtype that has nothing in between.
    """

    draws: ClassVar[int] = 1
    kind: Literal["random_volume_rotation"] = "random_volume_rotation"
    degrees: Annotated[float, Field(ge=0, description="To either side, at most.")] = 15.0
    axis: Annotated[Axis, Field(description="That stays: 0 depth, 1 height, 2 width.")] = 0
    masks: Annotated[tuple[str, ...], Field(description="Fields whose numbers are classes.")] = ()
    fill_mode: Annotated[Literal["constant", "nearest", "reflect"], Field(description="What comes from outside.")] = (
        "constant"
    )
    value: float = Field(0.0, description='What comes from outside with "constant"; in masks it is 0.')

    def declare(self, spec: Spec) -> Spec:
        """Keep shapes and dtypes."""
        for name in self.masks:
            if name not in self.fields:
                raise DatasetError(
                    f"{self.kind}: mask {name!r} is no field that is turned; {nearest(name, self.fields)}"
                )
        return super().declare(spec)

    def check(self, name: str, field: FieldSpec) -> None:
        """Refuse what OpenCV cannot warp."""
        if np.dtype(field.dtype).itemsize not in MOVED:
            raise DatasetError(f"{self.kind}: field {name!r} is {field}, expected numbers of 1, 2, 4 or 8 bytes")
        if any(size is not None and size > LARGEST for size in field.shape[:3]):
            raise DatasetError(f"{self.kind}: field {name!r} is {field}, expected sides of {LARGEST:,} voxels at most")

    def angle(self, draw: float) -> float:
        """Return the degrees that a number in [0, 1) stands for; positive ones turn as `numpy.rot90` does."""
        return self.degrees * (2 * draw - 1)

    def changed(self, name: str, volume: np.ndarray, draws: list[float]) -> np.ndarray:
        """Turn one volume."""
        smooth = name not in self.masks and str(volume.dtype) in SMOOTH_DTYPES
        number = volume.dtype if smooth else np.dtype(MOVED[volume.dtype.itemsize])
        value = self.value if smooth else 0.0
        look = Look("bilinear" if smooth else "nearest", fill_mode=self.fill_mode, fill_value=value)
        slices = np.ascontiguousarray(np.moveaxis(volume, self.axis, 0))
        turned = np.empty_like(slices)
        height, width = slices.shape[1:3]
        angle = math.radians(self.angle(draws[0]))
        cosine, sine = math.cos(angle), math.sin(angle)
        matrix = centred(cosine, -sine, sine, cosine, height, width).matrix
        for before, after in zip(slices.view(number), turned.view(number), strict=True):
            made = by_matrix(before, matrix, height, width, look, after)
            if slices.ndim == 4 and slices.shape[3] > AT_ONCE:  # it was put together of several
                after[...] = made
        return np.moveaxis(turned, 0, self.axis)
