"""Samples of which something is true: a field has a certain value, or a user's function says so."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from loader_service.dataset.selection.candidates import SCAN, Candidates
from loader_service.dataset.selection.selection import Listed, Selection
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.dataset.transforms.map import seed_globals
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError, nearest

Value = bool | int | float | str
SHOWN = 5  # values of a field that an error names


def _listed(given: Any) -> Any:
    """Return one value, or many, as a list of Python's own."""
    many = given if isinstance(given, list | tuple | set | frozenset | range | np.ndarray) else [given]
    values = [value.item() if isinstance(value, np.generic) else value for value in many]
    if not all(isinstance(value, Value) and value == value for value in values):  # NaN is no other NaN's equal
        raise ValueError("expected numbers or names of classes")
    return values


def _in_order(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return each value once, in an order of its own: however they are written, they make the same dataset."""
    return tuple(sorted(set(values), key=lambda value: (isinstance(value, str), value)))


Values = Annotated[
    tuple[Value, ...], Field(min_length=1), BeforeValidator(_listed), AfterValidator(_in_order)
]  # of which a field must have one; a name stands for the number of that class


class Filter(SelectionStep):
    """Keep samples whose fields have the given values, or for which a user's function returns True."""

    kind: Literal["filter"] = "filter"
    function: UserCode | None = None
    values: Annotated[
        dict[str, Values], Field(description="A table from field to a list of values; all fields must match.")
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.function is None) == (not self.values):
            raise ValueError('expected a function, as in "keep:large", or values of fields, as in label = [0, 1]')
        return self

    def user_code(self) -> list[UserCode]:
        """Name the function's module."""
        return [self.function] if self.function else []

    def make_index(self, candidates: Candidates, table: ReadTable) -> Index:
        """Look at every sample."""
        kept = self._ask(candidates, self.function) if self.function else self._compare(candidates)
        if not kept.any():
            raise DatasetError(f"filter keeps none of the {len(candidates):,} samples{self._found(candidates)}")
        return {"kept": np.flatnonzero(kept)}

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Keep what was found."""
        return Listed(inner, index["kept"])

    def _compare(self, candidates: Candidates) -> NDArray[np.bool_]:
        kept = np.ones(len(candidates), bool)
        for field, values in self.values.items():
            column = candidates.column(field, "filter")
            found = np.isin(column.values, [_number(value, candidates.class_names) for value in values])
            found[list(column.unread)] = True  # whoever makes them will say what is wrong
            kept &= found
        return kept

    def _found(self, candidates: Candidates) -> str:
        """Return which values there are, for an error."""
        told = []
        for field, values in self.values.items():
            found = np.unique(candidates.column(field, "filter").values).tolist()
            more = ", ..." if len(found) > SHOWN else ""
            told.append(f"{field} is to be {_either(values)}, and is {', '.join(map(str, found[:SHOWN]))}{more}")
        return f": {'; '.join(told)}" if told else ""

    def _ask(self, candidates: Candidates, function: UserCode) -> NDArray[np.bool_]:
        keeps = function.load()
        if not callable(keeps):
            raise DatasetError(f"filter: {function.name!r} is {type(keeps).__name__}, expected a function")
        kept = np.ones(len(candidates), bool)
        for group in candidates.groups:
            fields = frozenset(group.spec)
            for number, sample_id in zip(group.numbers.tolist(), group.ids.tolist(), strict=True):
                try:
                    sample = group.read(sample_id, fields)
                except DatasetError:
                    continue  # kept: whoever makes it will say what is wrong
                seed_globals(SCAN, group.start + sample_id)
                with group.naming(sample_id):
                    kept[number] = _verdict(keeps(sample), function.name)
        return kept


def _verdict(given: Any, name: str) -> bool:
    if not isinstance(given, bool | np.bool_):
        raise DatasetError(f"filter: {name!r} returned {type(given).__name__}, expected True or False")
    return bool(given)


def _number(value: Value, class_names: list[str]) -> float:
    """Return the number of a class that is named; any other value as it is."""
    if not isinstance(value, str):
        return value
    if value not in class_names:
        told = nearest(value, class_names) if class_names else "the source knows no names of classes: give a number"
        raise DatasetError(f"filter: there is no class {value!r}; {told}")
    return class_names.index(value)


def _either(values: tuple[Value, ...]) -> str:
    return " or ".join(map(repr, values))
