"""How the ranges of `ImageDataGenerator` are written: pairs, numbers that stand for a pair, lists to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeGuard, get_args

from pydantic import BeforeValidator, Field

from loader_service.dataset.transforms.geometry.drawing import FillMode
from loader_service.protocol.errors import nearest

FILL_MODES = get_args(FillMode)


def _known_fill_mode(name: object) -> object:
    if isinstance(name, str) and name not in FILL_MODES:
        raise ValueError(f"there is no fill mode {name!r}; {nearest(name, FILL_MODES)}")
    return name


def _pair(said: object) -> tuple[float, float]:
    if not _is_list(said) or len(said) != 2 or not all(map(_is_number, said)):
        raise ValueError("expected two numbers, the least and the largest")
    if said[0] > said[1]:
        raise ValueError(f"{tuple(said)} is turned round: expected the smaller number first")
    return float(said[0]), float(said[1])


def _factors(said: object) -> object:
    pair = _pair(said)
    if pair[0] < 0:
        raise ValueError(f"{pair} has a factor below 0: expected 1 for no change, 0 for black")
    return pair


def _zoom(said: object) -> object:
    if _is_number(said):
        if not 0 <= said < 1:
            raise ValueError("expected a number in [0, 1): z means factors from 1 - z to 1 + z; or give two factors")
        return float(said)
    pair = _pair(said)
    if pair[0] <= 0:
        raise ValueError(f"{pair} zooms to nothing: expected factors above 0")
    return pair


def _shift_range(said: object) -> object:
    if _is_number(said) and said >= 0:
        return said
    if _is_list(said) and len(said) and all(map(_is_number, said)):
        return tuple(said)
    raise ValueError("expected a number from 0 on, or a list of numbers to choose from")


def _is_number(said: Any) -> TypeGuard[float]:
    return isinstance(said, int | float) and not isinstance(said, bool)


def _is_list(said: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(said, list | tuple)


Pair = Annotated[tuple[float, float], BeforeValidator(_pair)]
Factors = Annotated[tuple[float, float], BeforeValidator(_factors)]
Zoom = Annotated[tuple[float, float] | float, BeforeValidator(_zoom)]
Shift = Annotated[int | float | tuple[int | float, ...], BeforeValidator(_shift_range)]
Fill = Annotated[FillMode, BeforeValidator(_known_fill_mode)]
NotNegative = Annotated[float, Field(ge=0)]
