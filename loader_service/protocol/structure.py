"""The structure of a batch that a user's code returns: (x, y, weights), each of arrays in tuples, lists and dicts.

What travels are named fields; the structure is plain data, in which each array is a name:

    ({"left": a, "right": b}, c)    {"tuple": [{"dict": {"left": "x/left", "right": "x/right"}}, "y"]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loader_service.protocol.errors import DatasetError

PARTS = ("x", "y", "weight")  # what the places of a tuple are, as Keras takes it
EXPECTED = "expected x, (x, y) or (x, y, weights): arrays, or tuples, lists and dicts of arrays"

Structure = str | dict[str, Any]


def taken_apart(batch: Any) -> tuple[Structure, dict[str, Any]]:
    """Return the structure of a batch, and its arrays by the names of their fields.

    >>> taken_apart(({"left": 1, "right": 2}, 3))
    ({'tuple': [{'dict': {'left': 'x/left', 'right': 'x/right'}}, 'y']}, {'x/left': 1, 'x/right': 2, 'y': 3})

    Raises:
        DatasetError: If it is nothing that Keras could take.
    """
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    while len(parts) > 1 and parts[-1] is None:
        parts = parts[:-1]
    if batch is None or len(parts) not in (1, 2, 3):
        raise DatasetError(f"it is {_told(batch)}, {EXPECTED}")
    arrays: dict[str, Any] = {}
    trees = [_tree(part, name, arrays) for part, name in zip(parts, PARTS, strict=False)]
    # One part that is a tuple stays in a tuple of its own, or it would look like (x, y).
    alone = len(trees) == 1 and not isinstance(parts[0], tuple | list)
    return trees[0] if alone else {"tuple": trees}, arrays


def put_together(structure: Structure, value: Callable[[str], Any]) -> Any:
    """Return what was taken apart, with a value in the place of each name."""
    if isinstance(structure, str):
        return value(structure)
    ((kind, inner),) = structure.items()
    if kind == "dict":
        return {key: put_together(part, value) for key, part in inner.items()}
    made = [put_together(part, value) for part in inner]
    return made if kind == "list" else tuple(made)


def without_lists(structure: Structure) -> Structure:
    """Return the structure with tuples in the place of lists: of these, TensorFlow would make one tensor.

    >>> without_lists({"tuple": [{"list": ["x/0", "x/1"]}, "y"]})
    {'tuple': [{'tuple': ['x/0', 'x/1']}, 'y']}
    """
    if isinstance(structure, str):
        return structure
    ((kind, inner),) = structure.items()
    if kind == "dict":
        return {"dict": {key: without_lists(part) for key, part in inner.items()}}
    return {"tuple": [without_lists(part) for part in inner]}


def inputs_in(structure: Structure) -> Structure:
    """Return the structure of x alone.

    >>> inputs_in({"tuple": [{"dict": {"left": "x/left"}}, "y"]})
    {'dict': {'left': 'x/left'}}
    """
    if isinstance(structure, dict) and "tuple" in structure:
        first: Structure = structure["tuple"][0]
        return first
    return structure


def names_in(structure: Structure) -> Iterator[str]:
    """Yield the names of the fields.

    >>> list(names_in({"tuple": [{"dict": {"left": "x/left"}}, "y"]}))
    ['x/left', 'y']
    """
    if isinstance(structure, str):
        yield structure
        return
    for inner in structure.values():
        for part in inner.values() if isinstance(inner, dict) else inner:
            yield from names_in(part)


def part_of(name: str) -> str:
    """Return which of PARTS a field belongs to.

    >>> part_of("x/left")
    'x'
    """
    return name.partition("/")[0]


def _tree(value: Any, name: str, arrays: dict[str, Any]) -> Structure:
    if isinstance(value, Mapping):
        return {"dict": {_key(key, name): _tree(inner, f"{name}/{key}", arrays) for key, inner in value.items()}}
    if isinstance(value, tuple | list):
        trees = [_tree(inner, f"{name}/{place}", arrays) for place, inner in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": trees}
    if value is None:
        raise DatasetError(f"{name!r} in it is None, {EXPECTED}")
    if name in arrays:
        raise DatasetError(f"two arrays in it would both be the field {name!r}: give its dicts keys without '/'")
    arrays[name] = value
    return name


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise DatasetError(f"{name!r} in it is a dict with the key {key!r}, expected names")
    return key


def _told(batch: Any) -> str:
    return f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else repr(batch)
