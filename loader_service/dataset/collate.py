"""Samples into rows: cast where nothing is lost, refuse what does not fit, name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from loader_service.protocol.errors import DatasetError, SpecMismatch
from loader_service.protocol.nesting import flat
from loader_service.protocol.spec import FieldSpec

TEXT = FieldSpec((None,), "uint8", form="text")


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


def put_part(room: np.ndarray, value: Any, field: str) -> int:
    """Write one sample's value into room for the longest; what stands behind it stays. Return its length.

    Raises:
        SpecMismatch: If it is longer, or does not fit otherwise.
    """
    array = encoded(value)
    if array.ndim != room.ndim or array.shape[1:] != room.shape[1:]:
        told = (None, *room.shape[1:])
        raise SpecMismatch(f"field {field!r} is {array.dtype} {array.shape}, declared {room.dtype} {told}.")
    if len(array) > len(room):
        raise SpecMismatch(
            f"field {field!r} has {len(array):,} entries, and the longest was declared to have {len(room):,}: "
            "say most=... in the step that pads it, makes it ragged, or takes it as text"
        )
    put(room[: len(array)], array, field)
    return len(array)


def encoded(value: Any) -> np.ndarray:
    """Return a value as an array; a string as its UTF-8 bytes."""
    array = np.asarray(value)
    if array.dtype.kind not in "US" or array.ndim:
        return array
    text = array.item()
    return np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8)


def native(value: Any) -> np.ndarray:
    """Return a value as an array in the machine's byte order: OpenCV looks at no other."""
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def spec_of(sample: Mapping[str, np.ndarray], origin: str) -> dict[str, FieldSpec]:
    """Return the spec of a sample that a user's code made; `origin` names that code.

    Raises:
        DatasetError: If a field holds anything but numbers, or one string.
    """
    spec = {}
    for name, value in sample.items():
        try:
            is_text = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "US"
            spec[name] = TEXT if is_text else FieldSpec.of(value)
        except DatasetError as error:
            raise DatasetError(f"{origin}: field {name!r}: {error}") from None
    return spec


def declared_spec(declared: Mapping[str, Any], origin: str) -> dict[str, FieldSpec]:
    """Return the spec that a user's object declares: field -> (shape, dtype), fields within dicts too.

    Raises:
        DatasetError: Names the field that is declared otherwise.
    """
    spec = {}
    for name, field in flat(declared).items():
        try:
            if isinstance(field, FieldSpec):
                spec[name] = field
            else:
                shape, dtype = field
                spec[name] = FieldSpec.like(tuple(map(int, shape)), np.dtype(dtype))
        except (TypeError, ValueError, DatasetError) as error:
            raise DatasetError(
                f"{origin}: spec[{name!r}] is {field!r}, expected (shape, dtype), as in ((64, 64, 3), 'uint8'): {error}"
            ) from None
    return spec


def _advice(got: tuple[int, ...], declared: tuple[int, ...]) -> str:
    if len(got) == 3 and len(declared) == 3:
        return "Pictures differ in size: add .resize(height, width) or a crop."
    alike = "The first sample sets the spec: every sample must be alike."
    if len(got) == len(declared) and got[1:] == declared[1:]:
        return f"{alike} Rows that differ in length need .pad(...) or .ragged(...)."
    return alike
