"""What a transform is: it declares the spec of what it returns, then runs; it draws from given numbers alone.

Two kinds. A `FieldTransform` turns one field's value into another, for one sample or
for a whole column of rows. A `SampleTransform` turns a whole sample into another.

`out` is the row (or the rows) in shared memory: a transform that is handed one writes there, so that the last step
of a chain is also the copy into the batch.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

Draws = list[float]  # numbers in [0, 1), for one sample
ColumnDraws = NDArray[np.float64]  # for a column, (rows, draws)
Sample = dict[str, Any]
Pixels = Annotated[int, Field(ge=1, le=65536)]
Names = str | Annotated[tuple[str, ...], Field(min_length=1)]  # of a field, or of several that are changed alike


def names_of(names: Names) -> tuple[str, ...]:
    """Return all of them."""
    return (names,) if isinstance(names, str) else names


def field_of(kind: str, spec: Spec, name: str) -> FieldSpec:
    """Return the spec of a field that a step of this kind acts on.

    Raises:
        DatasetError: If there is none.
    """
    if name not in spec:
        raise DatasetError(f"{kind}: there is no field {name!r}; the sample has {list(spec)}")
    return spec[name]


class Transform(BaseModel):
    """One declared step of a dataset; immutable, and plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    @property
    def is_random(self) -> bool:
        """Whether it is known to make something else of a sample in each epoch."""
        return False

    def declare(self, spec: Spec) -> Spec:
        """Return the spec of the samples that this step returns, given that of those it takes.

        Raises:
            DatasetError: If the step cannot work on such samples.
        """
        raise NotImplementedError(f"{type(self).__name__} must declare its spec")


class FieldTransform(Transform):
    """A step that acts on one field, and leaves the others alone."""

    draws: ClassVar[int] = 0  # numbers in [0, 1) that it wants for each sample
    vectorised: ClassVar[bool] = False  # rows of a column may be changed together
    in_place: ClassVar[bool] = False  # `out` may be the value itself
    views: ClassVar[bool] = False  # it returns a part of the value where that lies, and never writes into `out`

    field: str = "image"

    @property
    def is_random(self) -> bool:
        """Whether it draws."""
        return self.draws > 0

    def declare(self, spec: Spec) -> Spec:
        """Replace the spec of this step's field."""
        field = field_of(self.kind, spec, self.field)
        try:
            return {**spec, self.field: self.declare_field(field)}
        except DatasetError as error:
            others = [
                name for name in spec if len(spec[name].shape) != len(field.shape) and self._takes(name, spec[name])
            ]
            if not others:
                raise
            raise DatasetError(f"{error}; {' or '.join(f'field={name!r}' for name in others)} would fit") from error

    def _takes(self, name: str, field: FieldSpec) -> bool:
        try:
            self.model_copy(update={"field": name}).declare_field(field)
        except DatasetError:
            return False
        return True

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Return what `apply` makes of such a field."""
        raise NotImplementedError(f"{type(self).__name__} must declare its field")

    def apply(self, value: np.ndarray, draws: Draws, out: np.ndarray | None) -> np.ndarray:
        """Return the new value; in `out`, where that is given and fits."""
        raise NotImplementedError(f"{type(self).__name__} must apply itself")

    def apply_column(self, values: np.ndarray, draws: ColumnDraws, out: np.ndarray | None) -> np.ndarray:
        """Return the new values of a column, whose rows are values; in `out`, where that is given and fits."""
        made = out
        for row, numbers in enumerate(draws.tolist()):
            room = None if made is None else made[row]
            value = room if room is not None and out is values else values[row]
            changed = self.apply(value, numbers, room)
            if made is None or changed.shape != made.shape[1:]:
                made = np.empty((len(values), *changed.shape), changed.dtype)
            if changed is not room:
                made[row] = changed
        assert made is not None, "a column has rows"
        return made


class SampleTransform(Transform):
    """A step that acts on whole samples."""

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Return the new sample; `key` and `position` are all that its random numbers may depend on."""
        raise NotImplementedError(f"{type(self).__name__} must apply itself")


def image_field(transform: FieldTransform, field: FieldSpec) -> tuple[int, int, int]:
    """Return (height, width, channels) of a picture's field.

    Raises:
        DatasetError: If the field is no picture.
    """
    if len(field.shape) != 3 or field.varies:
        raise DatasetError(
            f"{transform.kind}: field {transform.field!r} is {field}, expected a picture (height, width, channels)"
        )
    height, width, channels = field.room
    return height, width, channels
