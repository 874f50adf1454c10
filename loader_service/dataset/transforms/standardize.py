"""Bring each sample to mean 0 and deviation 1, by its own numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from loader_service.dataset.transforms.geometry.opencv import OPENCV_DTYPES
from loader_service.dataset.transforms.transform import Draws, FieldTransform
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

CHANNELS = 4  # of which OpenCV computes mean and deviation
EPSILON = 1e-6  # as in Keras: what is added to a deviation, so that a sample of one value can be divided by it


class Standardize(FieldTransform):
    """(value - its mean) / (its standard deviation + 1e-6), as float32.

    Keras' samplewise_center and samplewise_std_normalization; tf.image.per_image_standardization, but for samples of
    one value.
    """

    vectorised: ClassVar[bool] = True
    in_place: ClassVar[bool] = True
    kind: Literal["standardize"] = "standardize"
    center: Annotated[bool, Field(description="Subtract the mean.")] = True
    std: Annotated[bool, Field(description="Divide by the standard deviation.")] = True
    per_channel: Annotated[bool, Field(description="Mean and deviation of each entry of the last axis.")] = False

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.center or self.std):
            raise ValueError("neither center nor std is left: it would change nothing")
        return self

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Become float32."""
        least = 2 if self.per_channel else 1
        if len(field.shape) < least or field.form != "dense" or np.dtype(field.dtype).kind not in "buif":
            told = "real numbers with a last axis of channels" if self.per_channel else "real numbers, more than one"
            raise DatasetError(f"standardize: field {self.field!r} is {field}, expected {told}")
        return replace(field, dtype="float32")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Standardize one value."""
        target = out if out is not None and out.shape == value.shape else np.empty(value.shape, np.float32)
        if value.size:
            self._standardize(value, target)
        return target

    def _standardize(self, sample: np.ndarray, out: np.ndarray) -> None:
        """Subtract first, in place from then on: float32 would lose digits the other way round."""
        mean, std = _moments(sample, self.per_channel)
        shift, scale = mean.astype(np.float32), (1 / (std + EPSILON)).astype(np.float32)
        if len(mean) > 1:
            # One line of numbers for each line of the sample: much faster than to go through channels one by one.
            repeats = sample.size // (len(sample) * len(mean))
            shift, scale = np.tile(shift, repeats), np.tile(scale, repeats)
            sample, out = sample.reshape(len(sample), -1), out.reshape(len(sample), -1)
        if not self.center:
            shift = np.zeros(1, np.float32)
        np.subtract(sample, shift, out=out, dtype=np.float32, casting="unsafe")
        if self.std:
            np.multiply(out, scale, out=out)


def _moments(sample: np.ndarray, per_channel: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation, of all entries or of each entry of the last axis, each of one axis."""
    channels = sample.shape[-1] if per_channel else 1
    if channels <= CHANNELS and sample.dtype in OPENCV_DTYPES:
        mean, std = cv2.meanStdDev(np.ascontiguousarray(sample).reshape(-1, 1, channels))
        return mean[:, 0], std[:, 0]
    entries = sample.reshape(-1, channels).astype(np.float64)
    return entries.mean(axis=0), entries.std(axis=0)
