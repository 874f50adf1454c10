"""Labels that stand beside files: each becomes a column of numbers; text is numbered by its classes.

Whatever cannot be a label is refused by the name of its file, before anything runs: one that is missing, NaN, no
class that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.collate import native
from loader_service.protocol.errors import DatasetError, nearest
from loader_service.protocol.spec import FieldSpec

LABEL = "label"  # the field of what stands alone
MISSING = ("NAType", "NaTType")  # pandas' own words for nothing


@dataclass(frozen=True)
class Column:
    """One field of all samples."""

    values: np.ndarray  # one row for each
    classes: tuple[str, ...] = ()  # what class numbers mean


def label_columns(given: Any, paths: Sequence[str], classes: Sequence[str] | None) -> dict[str, Column]:
    """Return each field's column.

    Args:
        given: A dict from field to values, or the values of the field `label`: one row for each path.
        paths: What a label is named by where it is wrong.
        classes: Classes in the order of their numbers; those of the labels, sorted, where None.
    Raises:
        DatasetError: Names the label that is wrong, and its file.
    """
    columns = given if isinstance(given, Mapping) else {} if given is None else {LABEL: given}
    named = _field_of_classes(columns, classes)
    return {
        field: label_column(field, values, paths, classes if field == named else None)
        for field, values in columns.items()
    }


def _field_of_classes(columns: Mapping[str, Any], classes: Sequence[str] | None) -> str | None:
    if classes is None:
        return None
    if len(set(classes)) < len(classes):
        raise DatasetError(f"classes {list(classes)} has a name twice")
    if LABEL not in columns and len(columns) != 1:
        raise DatasetError(f"classes belong to the field {LABEL!r}, and the labels have the fields {list(columns)}")
    return LABEL if LABEL in columns else next(iter(columns))


def label_column(field: str, given: Any, paths: Sequence[str], classes: Sequence[str] | None = None) -> Column:
    """Return the column of one field; raises as `label_columns`."""
    array = _as_array(field, given)
    if len(array) != len(paths):
        raise DatasetError(f"{len(paths):,} paths and {len(array):,} labels in {field!r}: expected one for each")
    if array.dtype == object:
        _refuse_rows(field, "missing", paths, [row for row, value in enumerate(array) if _is_missing(value)])
        if all(isinstance(value, str) for value in array):
            return _numbered(field, array.tolist(), paths, classes)
        array = _of_numbers(field, array)
    try:
        FieldSpec.of(array)
    except DatasetError as error:
        raise DatasetError(f"labels of the field {field!r}: {error}") from None
    if array.dtype.kind in "fc":
        bad = np.isnan(array).reshape(len(array), -1).any(axis=1)
        _refuse_rows(field, "NaN", paths, np.flatnonzero(bad).tolist())
    if classes is not None:
        _check_numbers(field, array, paths, classes)
    return Column(np.ascontiguousarray(array), tuple(classes or ()))


def _as_array(field: str, given: Any) -> np.ndarray:
    """Return values as an array: of numbers, or of Python's objects, text among them."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise DatasetError(
            f"labels of the field {field!r} are {given!r:.100}, expected one for each path. A dict goes from field to "
            "column; for one from path to label, give [labels[path] for path in paths]"
        )
    if not hasattr(given, "dtype"):
        given = list(given)
        if any(isinstance(value, str) for value in given):  # NumPy would make text of all that is beside it, NaN too
            array = np.empty(len(given), object)
            array[:] = given
            return array
    try:
        array = native(given)
    except ValueError as error:
        raise DatasetError(f"labels of the field {field!r} cannot be made an array: {error}") from error
    if array.dtype.kind in "UO" and array.ndim != 1:
        raise DatasetError(f"labels of the field {field!r} are text {array.shape}, expected one for each path")
    return array.astype(object) if array.dtype.kind == "U" else array


def _of_numbers(field: str, array: np.ndarray) -> np.ndarray:
    """Return objects as numbers, if that is what they are."""
    try:
        numbers = native(array.tolist())
        FieldSpec.like(numbers.shape[1:], numbers.dtype)
    except (ValueError, DatasetError):
        kinds = sorted({type(value).__name__ for value in array})
        raise DatasetError(
            f"labels of the field {field!r} are {' and '.join(kinds)}, expected numbers, or text"
        ) from None
    return numbers


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in MISSING or (isinstance(value, float) and value != value)


def _refuse_rows(field: str, what: str, paths: Sequence[str], rows: list[int]) -> None:
    if rows:
        more = f", as are {len(rows) - 1:,} more" if len(rows) > 1 else ""
        raise DatasetError(
            f"the label of {paths[rows[0]]!r} (row {rows[0]:,}, field {field!r}) is {what}{more}: "
            "leave such samples out, or label them"
        )


def _numbered(field: str, values: list[str], paths: Sequence[str], classes: Sequence[str] | None) -> Column:
    """Return class numbers in place of class names."""
    names = sorted(set(values)) if classes is None else list(classes)
    numbers = {name: number for number, name in enumerate(names)}
    for row, value in enumerate(values):
        if value not in numbers:
            raise DatasetError(
                f"the label of {paths[row]!r} (row {row:,}, field {field!r}) is {value!r}, which is none of the "
                f"classes; {nearest(value, names)}"
            )
    return Column(np.fromiter((numbers[value] for value in values), np.int64, len(values)), tuple(names))


def _check_numbers(field: str, array: NDArray[Any], paths: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse class names that do not fit labels which are numbers already."""
    count = len(classes)
    if array.shape[1:] == (count,):
        return  # one-hot, or one number for each class
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DatasetError(
            f"the field {field!r} is {array.dtype} {array.shape[1:]}, which {count:,} classes do not fit: "
            f"expected text, class numbers, or {count:,} numbers for each sample"
        )
    outside = np.flatnonzero((array < 0) | (array >= count))
    if len(outside):
        row = int(outside[0])
        raise DatasetError(
            f"the label of {paths[row]!r} (row {row:,}, field {field!r}) is {array[row]}, and there are {count:,} "
            f"classes: expected 0 .. {count - 1}"
        )


def stacked(field: str, parts: Iterable[tuple[str, Any]], paths: Sequence[str]) -> np.ndarray:
    """Return several columns of numbers as one array, of shape (samples, columns).

    Raises:
        DatasetError: If one holds text.
    """
    columns = []
    for name, values in parts:
        column = label_column(name, values, paths)
        if column.classes:
            raise DatasetError(
                f"column {name!r} holds text ({column.classes[0]!r}), and the field {field!r} is to be one array of "
                f"several columns: make it a field of its own, as in labels={{{name!r}: {name!r}}}"
            )
        columns.append(column.values)
    if not columns:
        raise DatasetError(f"no columns are named for the field {field!r}")
    return np.stack(columns, axis=1)
