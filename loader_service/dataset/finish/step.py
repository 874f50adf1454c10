"""What a finish step is: it makes fields of a batch out of others, once all rows are there.

Rows that differ in length are written to a stage first, each with room for the longest. A step reads these `Sequences`
and writes elsewhere, never in place, so that it can be repeated by another worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

Room = Callable[[str, tuple[int, ...], Any], np.ndarray]  # name, shape, dtype of an array -> where to write it


class Finish(BaseModel):
    """One declared step of a dataset; immutable, and plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Return the fields of a batch after this step, given those before it.

        Raises:
            DatasetError: If the step cannot work on such batches.
        """
        raise NotImplementedError(f"{type(self).__name__} must declare its spec")

    def apply(self, fields: dict[str, Any], room: Room, key: int, position: int) -> dict[str, Any]:
        """Return the fields after this step; `key` and `position` are all that its random numbers may depend on."""
        raise NotImplementedError(f"{type(self).__name__} must apply itself")


class Lengths(Finish):
    """A step that says what becomes of rows that differ in length."""

    field: str
    most: int | None = None

    def staged(self, field: FieldSpec) -> FieldSpec:
        """Return what a row of this step's field is on the stage, given what it is before.

        Raises:
            DatasetError: If it has no axis that could differ, or nobody has said how long the longest is.
        """
        if not field.shape:
            raise DatasetError(f"{self.kind}: field {self.field!r} is {field}, which has no length")
        most = self.most or next(iter(field.most), None)
        if most is None:
            raise DatasetError(
                f"{self.kind}: room is kept for the longest row of field {self.field!r}, and this source does not say "
                f"how long that is: add most=..., for example .{self.kind}({self.field!r}, most=1000)"
            )
        return FieldSpec((None, *field.shape[1:]), field.dtype, (most,))
