"""What users give -> what a declaration holds: paths, arrays, labels, other datasets; checked, with clear errors."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from loader_service.dataset.collate import native
from loader_service.dataset.declaration import Part, explain
from loader_service.dataset.sources.parts import Where, declare_parts
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import BFLOAT16
from loader_service.protocol.tables import TableRef

PathLike = str | os.PathLike[str]
Labels = Mapping[str, Any] | ArrayLike
Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], **options: Any) -> Model:
    """Return a step with these options.

    Raises:
        DatasetError: If one of them is wrong: names the step, the option, and what was expected.
    """
    try:
        return model(**options)
    except ValidationError as error:
        name = model.model_fields["kind"].default if "kind" in model.model_fields else _method_name(model)
        raise DatasetError(f"{name}: {explain(error)}") from None


def _method_name(model: type[BaseModel]) -> str:
    """Return the method that makes it: "on_error" of OnError."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()


def joined_parts(method: str, datasets: Sequence[Any]) -> tuple[tuple[Part, ...], dict[str, np.ndarray]]:
    """Return what of datasets can be put together, and the arrays that it names."""
    if len(datasets) < 2 or not all(hasattr(dataset, "declaration") for dataset in datasets):
        example = "mix([a, b], weights=[0.7, 0.3])" if method == "mix" else "concat(a, b)"
        raise DatasetError(f"{method} needs two datasets or more: Dataset.{example}")
    parts = []
    tables: dict[str, np.ndarray] = {}
    for number, dataset in enumerate(datasets):
        told = dataset.declaration
        late = [name for name in type(told).model_fields.keys() - Part.model_fields if getattr(told, name)]
        if late:
            name = told.finish[0].kind if told.finish else min(late)
            raise DatasetError(
                f"{method}: dataset {number} has .{name}(...), which is for all of them together: leave it out there, "
                f"and add it to what {method} returns"
            )
        parts.append(Part(source=told.source, transforms=told.transforms, select=told.select))
        tables |= dataset.tables
    return tuple(parts), tables


def absolute(path: PathLike) -> str:
    """Return a path that means the same in every process."""
    return str(Path(path).expanduser().absolute())


def keep(array: np.ndarray, tables: dict[str, np.ndarray]) -> TableRef:
    """Remember an array under its hash, and return the reference that the declaration holds."""
    ref = TableRef.of(array)
    tables[ref.table] = array
    return ref


def parts_of(what: str, value: Any, tables: dict[str, np.ndarray]) -> Where:
    """Return one array or several, in memory or in files, as a declaration names them."""
    return declare_parts(what, value, partial(keep, tables=tables))


def row_array(what: str, value: Any) -> np.ndarray:
    """Return numbers with one row for each sample.

    Raises:
        DatasetError: If they are none; `what` says what they are for.
    """
    try:
        array = native(value)
    except ValueError as error:
        raise DatasetError(f"{what} cannot be made an array: {error}") from error
    if array.ndim == 0 or not (array.dtype.kind in "biufc" or array.dtype.name == BFLOAT16):
        raise DatasetError(f"{what} is {array.dtype} {array.shape}, expected numbers with one row for each sample")
    return np.ascontiguousarray(array)


def label_column(ids: Sequence[str] | None, labels: Labels) -> np.ndarray:
    """Return one label for each id, as an array.

    Raises:
        DatasetError: If one is missing, or not a number, or there are too many or too few.
    """
    if isinstance(labels, Mapping):
        assert ids is not None, "ids were listed before"
        missing = [name for name in ids if name not in labels]
        if missing:
            raise DatasetError(
                f"{len(missing):,} of {len(ids):,} ids have no label: {', '.join(map(repr, missing[:3]))}"
                f"{', ...' if len(missing) > 3 else ''}"
            )
        labels = [labels[name] for name in ids]
    column = row_array("from_npy_files: labels", labels)
    if ids is not None and len(column) != len(ids):
        raise DatasetError(f"{len(ids):,} ids and {len(column):,} labels: expected one for each")
    if column.dtype.kind == "f" and np.isnan(column).any():
        (first, *_) = np.flatnonzero(np.isnan(column.reshape(len(column), -1)).any(axis=1)).tolist()
        who = f"sample {first}" if ids is None else repr(ids[first])
        raise DatasetError(f"the label of {who} is NaN: leave that sample out")
    return column


def unique_ids(ids: Sequence[Any]) -> list[str]:
    """Return the names of files, each there once.

    Raises:
        DatasetError: If one is there twice.
    """
    names = [str(name) for name in ids]
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise DatasetError(
            f"id {name!r} is there {times} times: each file is one sample. To see some more often, there is "
            ".weighted(...)"
        )
    return names
