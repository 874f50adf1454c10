"""Which fields of a batch are a model's inputs, targets and weights, and how they are put together for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.nesting import fields_within, group_of
from loader_service.protocol.spec import DatasetInfo
from loader_service.protocol.structure import Structure, inputs_in, names_in, put_together, without_lists

Names = str | Sequence[str] | None
WEIGHT = "weight"  # the field that remainder="pad" adds
Group = tuple[str, ...]  # whole names of its fields


@dataclass(frozen=True)
class Roles:
    """A choice of fields; one field stands alone, several form a dict by name, those of a group a dict within.

    Unless the user's own code has returned batches in a structure of its own.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    weights: str | None
    groups: Mapping[str, Group]  # of the names that are no fields: "meta" of "meta/age"
    structure: Structure | None = None  # in which the user's own code has returned the batch

    @classmethod
    def of(cls, info: DatasetInfo, inputs: Names, targets: Names, weights: str | None) -> Roles:
        """Take what is named, and the source's defaults for what is not.

        Raises:
            DatasetError: If a name is no field, nor a group; lists those that are. If there are weights and nothing to
                weigh.
        """
        if info.structure is not None and inputs is targets is weights is None:
            return cls(tuple(info.inputs), tuple(info.targets), _weights_in(info.structure), {}, info.structure)
        x, y = _names(inputs, info.inputs), _names(targets, info.targets)
        groups = {name: fields_within(name, info.spec) for name in (*x, *y) if name not in info.spec}
        for name in (*x, *y, *([weights] if weights else [])):
            if name not in info.spec and not groups.get(name):
                raise DatasetError(f"{name!r} is no field of this stream; it has {list(info.spec)}")
        if weights is not None and not y:
            raise DatasetError(f"weights={weights!r} needs targets to weigh: name them with targets=")
        if weights is None and y and WEIGHT in info.spec:
            weights = WEIGHT
        return cls(x, y, weights, groups)

    def arrange(
        self, fields: Mapping[str, Any], pack: Callable[[Any], Any] = lambda value: value, weights: Any = None
    ) -> Any:
        """Return (x, y), (x, y, w) or x alone, out of one value for each field.

        Args:
            weights: Stands in for the field of weights.
        """
        if self.structure is not None and weights is None:
            return put_together(self.structure, lambda name: pack(fields[name]))
        x = self.inputs_of(fields, pack)
        if not self.targets:
            return x
        y = self._values(fields, self.targets, pack)
        if weights is None and self.weights is not None:
            weights = fields[self.weights]
        return (x, y) if weights is None else (x, y, pack(weights))

    def inputs_of(self, fields: Mapping[str, Any], pack: Callable[[Any], Any]) -> Any:
        """Return x alone."""
        if self.structure is not None:
            return put_together(inputs_in(self.structure), lambda name: pack(fields[name]))
        return self._values(fields, self.inputs, pack)

    def without_lists(self) -> Self:
        """Return the same choice, with tuples in the place of lists."""
        return replace(self, structure=without_lists(self.structure)) if self.structure is not None else self

    def _values(self, fields: Mapping[str, Any], names: tuple[str, ...], pack: Callable[[Any], Any]) -> Any:
        if len(names) == 1:
            return self._value(fields, names[0], pack)
        return {name: self._value(fields, name, pack) for name in names}

    def _value(self, fields: Mapping[str, Any], name: str, pack: Callable[[Any], Any]) -> Any:
        if name not in self.groups:
            return pack(fields[name])
        return group_of(self.groups[name], name, {field: pack(fields[field]) for field in self.groups[name]})


def _weights_in(structure: Structure) -> str | None:
    return WEIGHT if WEIGHT in names_in(structure) else None


def _names(given: Names, default: list[str]) -> tuple[str, ...]:
    if given is None:
        return tuple(default)
    return (given,) if isinstance(given, str) else tuple(given)
