"""The arguments of Keras' `ImageDataGenerator`, as one step: one warp, one table of shades, one standardisation.

What is drawn, and in which order it is applied, is what `get_random_transform`, `apply_transform` and `standardize` do:

    affine, with the flips in it  ->  channel shift  ->  brightness  ->  rescale  ->  samplewise  ->  featurewise

Source: keras/src/legacy/preprocessing/image.py of Keras 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
from pydantic import Field, StrictBool, ValidationInfo, field_validator

from loader_service.dataset.transforms.geometry.opencv import LARGEST, SMOOTH_DTYPES, with_channels
from loader_service.dataset.transforms.keras_affine import Affine, transformed
from loader_service.dataset.transforms.keras_ranges import Factors, Fill, NotNegative, Pair, Shift, Zoom
from loader_service.dataset.transforms.transform import Draws, FieldTransform, image_field
from loader_service.dataset.transforms.values import Number, as_lines
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

Statistic = Number | tuple[float, ...] | None
EPSILON = 1e-6  # that Keras adds to each standard deviation
WHITENING = (
    "zca_whitening is not done here: its matrix has (height * width * channels) squared entries, 90 GB for pictures of "
    "224 x 224. Whiten small pictures in a function of yours, with .map(...), or normalize each channel: "
    "featurewise_center=True, featurewise_std_normalization=True"
)


class Drawn(NamedTuple):
    """What is drawn for one picture."""

    affine: Affine
    channel_shift: float | None  # is added
    brightness: float | None  # is multiplied


class AugmentImages(FieldTransform):
    """Rotate, shift, shear, zoom, mirror, change shades and standardise, as `ImageDataGenerator` does."""

    draws: ClassVar[int] = 12

    kind: Literal["augment_images"] = "augment_images"
    rotation_range: Annotated[NotNegative, Field(description="Degrees, to either side.")] = 0.0
    width_shift_range: Annotated[
        Shift, Field(description="Share of the width, if below 1; else pixels; or a list to choose from.")
    ] = 0.0
    height_shift_range: Annotated[
        Shift, Field(description="Share of the height, if below 1; else pixels; or a list to choose from.")
    ] = 0.0
    brightness_range: Annotated[Factors | None, Field(description="Least and largest factor.")] = None
    shear_range: Annotated[NotNegative, Field(description="Degrees, to either side.")] = 0.0
    zoom_range: Annotated[
        Zoom, Field(description="Least and largest factor, for each axis anew; or z, for (1 - z, 1 + z).")
    ] = 0.0
    channel_shift_range: Annotated[NotNegative, Field(description="Shades, to either side.")] = 0.0
    fill_mode: Annotated[Fill, Field(description="What lies outside the picture.")] = "nearest"
    cval: float = Field(0.0, description='What lies outside with fill_mode="constant".')
    horizontal_flip: StrictBool = Field(False, description="Mirror left-right every other picture.")
    vertical_flip: StrictBool = Field(False, description="Mirror top-bottom every other picture.")
    rescale: float | None = Field(None, description="Factor for all values, after all that is random.")
    samplewise_center: StrictBool = Field(False, description="Subtract the picture's own mean.")
    samplewise_std_normalization: StrictBool = Field(False, description="Divide by the picture's own deviation.")
    featurewise_center: StrictBool = Field(False, description="Subtract `mean`.")
    featurewise_std_normalization: StrictBool = Field(False, description="Divide by `std`.")
    mean: Annotated[Statistic, Field(validate_default=True, description="Of rescaled pictures; or one a channel.")] = (
        None
    )
    std: Annotated[Statistic, Field(validate_default=True, description="Of rescaled pictures; or one a channel.")] = (
        None
    )
    interpolation_order: Literal[0, 1] = Field(1, description="0: the nearest pixel, 1: bilinear.")
    value_range: Annotated[
        Pair | None, Field(description="Of brightened values; that of the dtype, and 0 .. 1 for floats, if not said.")
    ] = None
    zca_whitening: StrictBool = Field(False, description="Refused.")

    @field_validator("zca_whitening")
    @classmethod
    def _no_whitening(cls, asked: bool) -> bool:
        if asked:
            raise ValueError(WHITENING)
        return asked

    @field_validator("mean", "std")
    @classmethod
    def _is_wanted(cls, given: Statistic, info: ValidationInfo) -> Statistic:
        flags = [info.data.get(f"featurewise_{flag}") for flag in ("center", "std_normalization")]
        if given is None and (flags[1] or (flags[0] and info.field_name == "mean")):
            raise ValueError("featurewise_... needs it, or stats=: what dataset.stats() returned")
        if given is not None and not any(flags):
            raise ValueError("it is used with featurewise_center=True or featurewise_std_normalization=True only")
        if given is not None and info.field_name == "std" and not np.all(np.asarray(given) > 0):
            raise ValueError("expected deviations above 0")
        return given

    @property
    def is_random(self) -> bool:
        """Whether any of it is drawn: standardising alone is not."""
        return any(
            (
                self.rotation_range,
                self.width_shift_range,
                self.height_shift_range,
                self.brightness_range,
                self.shear_range,
                self._zoom != (1, 1),
                self.channel_shift_range,
                self.horizontal_flip,
                self.vertical_flip,
            )
        )

    @cached_property
    def _zoom(self) -> tuple[float, float]:
        return (1 - self.zoom_range, 1 + self.zoom_range) if isinstance(self.zoom_range, float) else self.zoom_range

    @cached_property
    def _centers(self) -> tuple[bool, bool]:
        """Whether means are subtracted, samplewise and featurewise: to divide, Keras does so as well."""
        return (
            self.samplewise_center or self.samplewise_std_normalization,
            self.featurewise_center or self.featurewise_std_normalization,
        )

    @cached_property
    def _standardizes(self) -> bool:
        return self.rescale is not None or any(self._centers)

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Keep the shape; become float32, where values are standardised."""
        height, width, channels = image_field(self, field)
        if field.dtype not in SMOOTH_DTYPES:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected one of {SMOOTH_DTYPES}: cast it first"
            )
        if max(height, width) > LARGEST:
            raise DatasetError(
                f"{self.kind}: field {self.field!r} is {field}, expected sides of {LARGEST:,} pixels at most: crop it"
            )
        if np.dtype(field.dtype).kind in "iu":
            limits = np.iinfo(field.dtype)
            if not limits.min <= self.cval <= limits.max:
                raise DatasetError(
                    f"{self.kind}: cval {self.cval:g} is no shade of field {self.field!r}, which is {field}: expected "
                    f"{limits.min} .. {limits.max}"
                )
        for name in ("mean", "std"):
            numbers = np.shape(getattr(self, name))
            if numbers and numbers[0] != channels:
                raise DatasetError(
                    f"{self.kind}: {name} has {numbers[0]} numbers, field {self.field!r} is {field}: expected one "
                    "number, or one for each channel"
                )
        return replace(field, dtype="float32") if self._standardizes else field

    def drawn(self, draws: Sequence[float], height: int, width: int) -> Drawn:
        """Return the parameters of one picture, as `get_random_transform` makes them; of 12 numbers in [0, 1)."""
        theta, row, row_sign, column, column_sign, shear, zx, zy, horizontal, vertical, shift, brightness = draws
        low, high = self._zoom
        affine = Affine(
            theta=_either_way(self.rotation_range, theta),
            tx=_shift(self.height_shift_range, row, row_sign, height),
            ty=_shift(self.width_shift_range, column, column_sign, width),
            shear=_either_way(self.shear_range, shear),
            zx=low + (high - low) * zx,
            zy=low + (high - low) * zy,
            flip_horizontal=self.horizontal_flip and horizontal < 0.5,
            flip_vertical=self.vertical_flip and vertical < 0.5,
        )
        added = _either_way(self.channel_shift_range, shift) if self.channel_shift_range else None
        factor = None
        if self.brightness_range is not None:
            low, high = self.brightness_range
            factor = low + (high - low) * brightness
        return Drawn(affine, added, factor)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Augment one picture."""
        height, width, _ = value.shape
        drawn = self.drawn(draws, height, width)
        target = out if out is not None and out.dtype == value.dtype and not self._standardizes else None
        picture = transformed(value, drawn.affine, self.fill_mode, self.cval, self.interpolation_order, target)
        if drawn.channel_shift is not None or drawn.brightness is not None:
            picture = self._shaded(picture, drawn, picture if picture is not value else target)
        return self._standardized(picture, out) if self._standardizes else picture

    def _shaded(self, picture: np.ndarray, drawn: Drawn, out: np.ndarray | None) -> np.ndarray:
        """Shift and multiply shades; alpha is left alone."""
        colors = 3 if picture.shape[2] == 4 else picture.shape[2]
        of_colors = picture[:, :, :colors]
        limits: tuple[float, float] | None = None
        if drawn.channel_shift is not None:
            limits = float(of_colors.min()), float(of_colors.max())
        if picture.dtype != np.uint8:
            if out is None:
                out = np.empty_like(picture)
            if out is not picture:
                out[...] = picture
            changed = self._shades(of_colors.astype(np.float32), drawn, limits, picture.dtype)
            out[:, :, :colors] = changed if picture.dtype.kind == "f" else np.rint(changed)
            return out
        table = np.rint(self._shades(np.arange(256, dtype=np.float32), drawn, limits, picture.dtype)).astype(np.uint8)
        if colors != picture.shape[2]:
            table = np.stack([table, table, table, np.arange(256, dtype=np.uint8)], axis=-1)[None]
        return with_channels(cv2.LUT(picture, table, dst=out), picture)

    def _shades(
        self, shades: np.ndarray, drawn: Drawn, limits: tuple[float, float] | None, dtype: np.dtype
    ) -> np.ndarray:
        """Return what becomes of shades; of bytes, the brightened are cut to whole ones, as Pillow has them."""
        if drawn.channel_shift is not None and limits is not None:
            shades = np.clip(shades + np.float32(drawn.channel_shift), *limits)
        if drawn.brightness is None:
            return shades
        whole = dtype == np.uint8
        shades = (np.floor(shades) if whole else shades) * np.float32(drawn.brightness)
        shades = np.clip(shades, *self._range_of(dtype))
        return np.floor(shades) if whole else shades

    def _range_of(self, dtype: np.dtype) -> tuple[float, float]:
        if self.value_range is not None:
            return self.value_range
        return (0, 1) if dtype.kind == "f" else (0, np.iinfo(dtype).max)

    def _standardized(self, picture: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        samplewise, featurewise = self._centers
        target = out if out is not None and out.shape == picture.shape else np.empty(picture.shape, np.float32)
        factor = np.float32(1 if self.rescale is None else self.rescale)
        np.multiply(picture, factor, out=target, dtype=np.float32, casting="unsafe")
        if samplewise:
            target -= target.mean(dtype=np.float64).astype(np.float32)
        if self.samplewise_std_normalization:
            target /= np.float32(target.std(dtype=np.float64) + EPSILON)
        if featurewise:
            lines, mean = as_lines(target, np.asarray(self.mean, np.float32))
            np.subtract(lines, mean, out=lines)
        if self.featurewise_std_normalization:
            lines, std = as_lines(target, np.asarray(self.std, np.float32) + np.float32(EPSILON))
            np.divide(lines, std, out=lines)
        return target


def _either_way(most: float, draw: float) -> float:
    return most * (2 * draw - 1)


def _shift(said: Shift, draw: float, sign: float, size: int) -> float:
    """Return a shift in pixels: of a whole number n, one of 0 .. n - 1; of several, one of them; with either sign."""
    if isinstance(said, float):
        return _either_way(said, draw) * (size if said < 1 else 1)
    if not said:
        return 0.0
    choices = range(said) if isinstance(said, int) else said
    chosen = choices[int(draw * len(choices))] * (1 if sign < 0.5 else -1)
    largest = said if isinstance(said, int) else max(said)
    return float(chosen * size if largest < 1 else chosen)
