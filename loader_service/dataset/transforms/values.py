"""Change values, not places: rescale, normalize, cast, one-hot. All of them vectorised over a task's rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from loader_service.dataset.transforms.transform import ColumnDraws, Draws, FieldTransform
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import BFLOAT16, FieldSpec, known_dtype

Number = float | int


def _target(value: np.ndarray, dtype: Any, out: np.ndarray | None) -> np.ndarray:
    """Return where to write: `out` if it fits, else fresh memory."""
    return out if out is not None and out.shape == value.shape else np.empty(value.shape, dtype)


def as_lines(value: np.ndarray, *of_channels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return a value as lines of pixels, and numbers of channels repeated for each pixel of a line.

    NumPy goes through short last axes, such as three channels, four times as slowly as through whole lines.
    """
    if value.ndim < 3 or not value.size or not value.flags.c_contiguous:
        return value, *of_channels
    pixels, channels = value.shape[-2:]
    repeated = (np.tile(numbers, pixels) if numbers.ndim else numbers for numbers in of_channels)
    return value.reshape(-1, pixels * channels), *repeated


class _Vectorised(FieldTransform):
    """A step to which a column is one value with an axis more: it draws nothing."""

    vectorised: ClassVar[bool] = True

    def apply_column(self, values: np.ndarray, draws: ColumnDraws, out: np.ndarray | None) -> np.ndarray:
        """Change all rows at once."""
        return self.apply(values, [], out)


class Rescale(_Vectorised):
    """value * scale + offset, as float32. `rescale(1 / 255)` brings a picture to 0 .. 1."""

    in_place: ClassVar[bool] = True
    kind: Literal["rescale"] = "rescale"
    scale: float
    offset: float = 0.0

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Become float32."""
        return replace(field, dtype="float32")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Rescale one value."""
        target = _target(value, np.float32, out)
        np.multiply(value, np.float32(self.scale), out=target, dtype=np.float32, casting="unsafe")
        if self.offset:
            np.add(target, np.float32(self.offset), out=target)
        return target


class Normalize(_Vectorised):
    """(value - mean) / std, as float32; one number for all, or one for each entry of the last axis."""

    in_place: ClassVar[bool] = True
    kind: Literal["normalize"] = "normalize"
    mean: Number | tuple[float, ...]
    std: Number | tuple[float, ...]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of what stands in a file, which may name one of statistics: catalog.py reads that."""
        made = handler.resolve_ref_schema(handler(core))
        described = (
            "File that `loader-service stats` has written, with mean and std of the field; relative to the config."
        )
        made["properties"]["stats"] = {"type": "string", "description": described}
        made["anyOf"] = [{"required": made.pop("required")}, {"required": ["stats"]}]
        return made

    @model_validator(mode="after")
    def _not_zero(self) -> Self:
        if not np.all(np.asarray(self.std) > 0):
            raise ValueError(f"std {self.std} must be above 0")
        return self

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Become float32."""
        for name in ("mean", "std"):
            numbers = np.shape(getattr(self, name))
            if numbers and (not field.shape or numbers[0] != field.shape[-1]):
                raise DatasetError(
                    f"normalize: {name} has {numbers[0]} numbers, field {self.field!r} is {field}: "
                    "expected one number, or one for each entry of the last axis"
                )
        return replace(field, dtype="float32")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Normalize one value."""
        target = _target(value, np.float32, out)
        if target is not value:
            np.copyto(target, value, casting="unsafe")  # first: NumPy converts within a sum by way of a buffer
        mean, scale = np.asarray(self.mean, np.float32), 1 / np.asarray(self.std, np.float32)
        lines, mean, scale = as_lines(target, mean, scale)
        np.subtract(lines, mean, out=lines)
        np.multiply(lines, scale, out=lines)
        return target


def _dtype_name(dtype: Any) -> str:
    """Return NumPy's one name of a dtype, for all its spellings: they make the same dataset."""
    try:
        return known_dtype(BFLOAT16) if dtype == BFLOAT16 else FieldSpec.like((), np.dtype(dtype)).dtype
    except (TypeError, SyntaxError, DatasetError) as error:
        raise ValueError(f"expected a NumPy dtype of numbers or bool: {error}") from error


class Cast(_Vectorised):
    """Change the dtype, as `numpy.ndarray.astype` does."""

    kind: Literal["cast"] = "cast"
    dtype: Annotated[str, BeforeValidator(_dtype_name)]

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Replace the dtype."""
        return replace(field, dtype=self.dtype)

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Cast one value."""
        target = _target(value, self.dtype, out)
        np.copyto(target, value, casting="unsafe")
        return target


class OneHot(_Vectorised):
    """A class number becomes a vector of zeros with a one at its place, as float32; smoothed, if that is said.

    Source of the smoothing: Szegedy et al., "Rethinking the Inception architecture", 2015, section 7.
    """

    kind: Literal["one_hot"] = "one_hot"
    field: str = "label"
    classes: Annotated[int, Field(ge=1, le=2**24)]
    smoothing: Annotated[float, Field(ge=0, lt=1, description="Share that is spread over all classes alike.")] = 0.0

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Add an axis of `classes`."""
        if np.dtype(field.dtype).kind not in "iu":
            raise DatasetError(f"one_hot: field {self.field!r} is {field}, expected whole numbers")
        return replace(field, shape=(*field.shape, self.classes), dtype="float32")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Encode one value."""
        labels = np.asarray(value)
        outside = (labels < 0) | (labels >= self.classes)
        if outside.any():
            raise DatasetError(
                f"one_hot: label {labels[outside].flat[0]} in field {self.field!r}, expected 0 .. {self.classes - 1}"
            )
        shape = (*labels.shape, self.classes)
        target = out if out is not None and out.shape == shape else np.empty(shape, np.float32)
        spread = self.smoothing / self.classes
        target[...] = spread
        target.reshape(-1, self.classes)[np.arange(labels.size), labels.reshape(-1)] = 1 - self.smoothing + spread
        return target


class ClassIndex(_Vectorised):
    """The inverse of one-hot: the place of the largest entry, as int64; the first, where several are."""

    kind: Literal["class_index"] = "class_index"
    field: str = "label"

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Take the last axis away."""
        if not field.shape or not field.shape[-1]:
            raise DatasetError(f"class_index: field {self.field!r} is {field}, expected one entry for each class")
        return FieldSpec(field.shape[:-1], "int64")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Find the class of one value."""
        found = np.asarray(value).argmax(-1)
        if out is None or out.shape != found.shape:
            return np.asarray(found, np.int64)
        out[...] = found
        return out
