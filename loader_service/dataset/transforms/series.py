"""What is done at random to recordings: their first axis is time, further ones are channels; lengths may differ.

Noise is counted out of one number for each sample: NumPy's own generators may be others in its next release.

Source: Um et al., "Data augmentation of wearable sensor data for Parkinson's disease monitoring", 2017, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import Field

from loader_service.dataset.draws import row_of_uniforms, uniforms
from loader_service.dataset.transforms.transform import (
    Draws,
    FieldTransform,
    Names,
    Sample,
    SampleTransform,
    field_of,
    names_of,
)
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

Deviation = Annotated[float, Field(ge=0)]
FLOATS = ("float32", "float64")
ONE = np.zeros(1, np.int64)  # the one position of a stream of its own


class RandomWindow(SampleTransform):
    """Cut `length` steps out of anywhere, the same ones of several fields."""

    kind: Literal["random_window"] = "random_window"
    length: Annotated[int, Field(ge=1, lt=2**31, description="Steps.")]
    field: Annotated[Names, Field(description="A field, or a list of those that are cut at one place.")] = "x"

    @property
    def is_random(self) -> bool:
        """It draws the place."""
        return True

    def declare(self, spec: Spec) -> Spec:
        """Have one length; whether a recording is long enough is seen one by one."""
        return {**spec, **{name: self._declared(spec, name) for name in names_of(self.field)}}

    def _declared(self, spec: Spec, name: str) -> FieldSpec:
        found = _timed(self.kind, spec, name)
        return FieldSpec((self.length, *found.shape[1:]), found.dtype, found.most[found.shape[:1].count(None) :])

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Cut views out of the fields of one sample."""
        names = names_of(self.field)
        steps = _one_length(self.kind, sample, names)
        if steps < self.length:
            raise DatasetError(
                f"{self.kind}: field {names[0]!r} has {steps:,} steps, fewer than the window of {self.length:,}: make "
                "that shorter, or pad first"
            )
        (draw,) = row_of_uniforms(key, position, 1)
        start = int(draw * (steps - self.length + 1))
        return {**sample, **{name: sample[name][start : start + self.length] for name in names}}


class _OfFloats(FieldTransform):
    draws: ClassVar[int] = 1
    in_place: ClassVar[bool] = True
    field: str = "x"

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Stay as it is."""
        if not field.shape or field.dtype not in FLOATS:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected a series (steps, ...) of float32 or float64: "
                f"cast it first"
            )
        return field


class RandomJitter(_OfFloats):
    """Add normal noise to each number."""

    kind: Literal["random_jitter"] = "random_jitter"
    std: Annotated[Deviation, Field(description="Of the noise, in units of the series.")] = 0.05

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Add noise to one recording."""
        noise = normals(draws[0], value.size, value.dtype).reshape(value.shape)
        noise *= self.std
        noised: np.ndarray = np.add(value, noise, out=_target(value, out), casting="same_kind")
        return noised


class RandomScale(_OfFloats):
    """Multiply each channel by a number of its own: normal, around 1."""

    kind: Literal["random_scale"] = "random_scale"
    std: Annotated[Deviation, Field(description="Of the factors.")] = 0.1
    per_channel: bool = Field(True, description="A factor for each entry of the last axis, or one for all.")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Scale one recording."""
        channels = value.shape[-1] if self.per_channel and value.ndim > 1 else 1
        factors = (1 + self.std * normals(draws[0], channels)).astype(value.dtype)
        scaled: np.ndarray = np.multiply(value, factors, out=_target(value, out))
        return scaled


class RandomTimeWarp(SampleTransform):
    """Let time run faster here and slower there, smoothly; the first step and the last stay where they are.

    At `knots` places, evenly apart, speed is exp(n), n normal with deviation `std`; between them it is linear. Floats
    are interpolated linearly; of whole numbers and bools, such as labels of steps, the nearest is taken.
    """

    kind: Literal["random_time_warp"] = "random_time_warp"
    std: Annotated[float, Field(ge=0, le=3, description="Of the logarithm of speed.")] = 0.2
    knots: Annotated[int, Field(ge=2, le=1000, description="Places at which speed is drawn.")] = 6
    field: Annotated[Names, Field(description="A field, or a list of those that are warped alike.")] = "x"

    @property
    def is_random(self) -> bool:
        """It draws speeds."""
        return True

    def declare(self, spec: Spec) -> Spec:
        """Stay as it is."""
        for name in names_of(self.field):
            found = _timed(self.kind, spec, name)
            if np.dtype(found.dtype).kind not in "biuf":
                raise DatasetError(f"{self.kind}: field {name!r} is {found}, expected real numbers")
        return spec

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Warp the fields of one sample alike."""
        names = names_of(self.field)
        steps = _one_length(self.kind, sample, names)
        if steps < 3:
            return sample
        times = self.times(steps, key, position)
        return {**sample, **{name: _at(np.asarray(sample[name]), times) for name in names}}

    def times(self, steps: int, key: int, position: int) -> NDArray[np.float64]:
        """Return the time in the recording, in steps, that each new step is taken from: 0 .. steps - 1, increasing."""
        (draw,) = row_of_uniforms(key, position, 1)
        speeds = np.exp(self.std * normals(draw, self.knots))
        between = np.interp(np.arange(steps - 1) + 0.5, np.linspace(0, steps - 1, self.knots), speeds)
        times = np.concatenate([[0.0], np.cumsum(between)])
        return np.asarray(times * ((steps - 1) / times[-1]))


def normals(draw: float, count: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return `count` normal numbers, which follow from one in [0, 1).

    Source: Box and Muller, "A note on the generation of random normal deviates", 1958.

    >>> bool((normals(0.5, 4) == normals(0.5, 7)[:4]).all())
    True
    """
    pairs = -(-count // 2)
    numbers = (1 - uniforms(int(draw * 2**53), ONE, 2 * pairs)[0]).astype(dtype)  # above 0, also as float32
    found = np.empty((pairs, 2), dtype)
    radius, angle = np.sqrt(-2 * np.log(numbers[::2])), numbers[1::2]
    angle *= 2 * np.pi
    np.multiply(radius, np.cos(angle), out=found[:, 0])
    np.multiply(radius, np.sin(angle), out=found[:, 1])
    return found.reshape(-1)[:count]


def _at(value: np.ndarray, times: NDArray[np.float64]) -> np.ndarray:
    """Return a recording at times between its steps."""
    if value.dtype.kind != "f":
        return value[np.rint(times).astype(np.int64)]
    before = np.minimum(times.astype(np.int64), len(value) - 2)
    share = (times - before).astype(value.dtype).reshape(-1, *[1] * (value.ndim - 1))
    return np.asarray(value[before] * (1 - share) + value[before + 1] * share)


def _target(value: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    return out if out is not None and out.shape == value.shape else np.empty_like(value)


def _timed(kind: str, spec: Spec, name: str) -> FieldSpec:
    """Return the spec of a field that has a first axis."""
    found = field_of(kind, spec, name)
    if not found.shape or found.form != "dense":
        raise DatasetError(f"{kind}: field {name!r} is {found}, expected a series (steps, ...)")
    return found


def _one_length(kind: str, sample: dict[str, Any], names: tuple[str, ...]) -> int:
    first, *others = names
    steps = len(sample[first])
    for name in others:
        if len(sample[name]) != steps:
            raise DatasetError(
                f"{kind}: field {name!r} has {len(sample[name]):,} steps and field {first!r} {steps:,}: expected alike"
            )
    return steps
