"""Fields in groups: {"meta": {"age": ...}} holds the field "meta/age", which has rows like any other.

Rows, slots and messages know flat names alone. Groups are what users' functions take and return, and what a model of
several inputs is fed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loader_service.protocol.errors import DatasetError

SEPARATOR = "/"


def flat(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample without groups: each field under its whole name.

    >>> flat({"image": 1, "meta": {"age": 2, "place": {"x": 3}}})
    {'image': 1, 'meta/age': 2, 'meta/place/x': 3}

    Raises:
        DatasetError: If two fields have one name.
    """
    if not any(isinstance(value, dict) for value in sample.values()):
        return dict(sample)
    fields: dict[str, Any] = {}
    for name, value in sample.items():
        inner = flat(value) if isinstance(value, dict) else None
        found = {name: value} if inner is None else {f"{name}{SEPARATOR}{below}": inner[below] for below in inner}
        for field in found:
            if field in fields:
                raise DatasetError(f"field {field!r} is there twice: once within a dict, once under this name")
        fields |= found
    return fields


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample with its groups: the inverse of `flat`.

    >>> nested({"image": 1, "meta/age": 2, "meta/place/x": 3})
    {'image': 1, 'meta': {'age': 2, 'place': {'x': 3}}}

    Raises:
        DatasetError: If a name is that of a field and of a group.
    """
    sample: dict[str, Any] = {}
    for field, value in fields.items():
        *groups, name = field.split(SEPARATOR)
        place = sample
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise DatasetError(
                    f"field {field!r} lies within {group!r}, which is a field itself: rename one of them"
                )
        if name in place:
            raise DatasetError(f"{field!r} is a field, and has fields within: rename one of them")
        place[name] = value
    return sample


def fields_within(group: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields of a group, by their whole names.

    >>> fields_within("meta", {"image": 1, "meta/age": 2})
    ('meta/age',)
    """
    return tuple(field for field in fields if field.startswith(group + SEPARATOR))


def group_of(names: tuple[str, ...], group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a group's fields, in groups again where it has some.

    >>> group_of(("meta/age", "meta/place/x"), "meta", {"meta/age": 2, "meta/place/x": 3})
    {'age': 2, 'place': {'x': 3}}
    """
    return nested({name.removeprefix(group + SEPARATOR): values[name] for name in names})
