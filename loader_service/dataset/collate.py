"""Samples into rows: cast where nothing is lost, refuse what does not fit, name it."""

from __future__ import annotations

from typing import Any

import numpy as np

from loader_service.protocol.errors import SpecMismatch
from loader_service.protocol.spec import FieldSpec


def put(row: np.ndarray, value: Any, field: str) -> None:
    """Write one sample's value into its row.

    Raises:
        SpecMismatch: If the shape is another one, or the cast could lose something.
    """
    array = np.asarray(value)
    if array.shape != row.shape:
        raise SpecMismatch(
            f"field {field!r} is {array.dtype} {array.shape}, declared {row.dtype} {row.shape}. "
            + _advice(array.shape, row.shape)
        )
    if array.dtype != row.dtype and not np.can_cast(array.dtype, row.dtype, "safe"):
        raise SpecMismatch(
            f"field {field!r} is {array.dtype}, declared {row.dtype}: the cast would lose something. "
            f'Add .cast("{field}", ...) if that is meant.'
        )
    row[...] = array


def check_column(field: str, got: FieldSpec, declared: FieldSpec) -> None:
    """Refuse a column whose rows are not as declared."""
    if got != declared:
        raise SpecMismatch(f"field {field!r} is {got}, declared {declared}")


def _advice(got: tuple[int, ...], declared: tuple[int, ...]) -> str:
    if len(got) == 3 and len(declared) == 3:
        return "Pictures differ in size: add .resize(height, width) or a crop."
    return "The first sample sets the spec: every sample must be alike."
