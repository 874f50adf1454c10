"""What users give for how strong a change is: both ends of a range, or one number that stands for them.

Each type here holds the two ends, ordered, whatever was given: two spellings of one range make the same dataset.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

Pair = tuple[float, float]

Probability = Annotated[float, Field(ge=0, le=1, description="Share of the samples that it is done to.")]


def _pair(value: Any, least: float, most: float, alone: Callable[[float], Pair] | None) -> Pair:
    """Return both ends of a range within least .. most; `alone` says what one number stands for."""
    if alone is not None and isinstance(value, Real):
        value = alone(float(value))
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        raise ValueError(f"expected two numbers, the ends of a range{', or one' if alone else ''}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("expected finite numbers")
    if low > high:
        raise ValueError(f"({low:g}, {high:g}) is turned round: expected the lower end first, ({high:g}, {low:g})")
    if not least <= low <= high <= most:
        limits = f"{least:g} or more" if most == math.inf else f"{least:g} .. {most:g}"
        raise ValueError(f"({low:g}, {high:g}) is no range of {limits}")
    return low, high


def _typed(least: float, most: float, alone: Callable[[float], Pair] | None = None) -> Any:
    """Return what pydantic needs to know of a type of ranges: how it is made, and how a file may spell it."""
    ends: dict[str, Any] = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    schema = {"anyOf": [{"type": "number"}, ends]} if alone else ends
    return BeforeValidator(lambda value: _pair(value, least, most, alone)), WithJsonSchema(schema)


def _about_one(number: float) -> Pair:
    if not 0 <= number <= 1:
        raise ValueError(
            f"one number f stands for factors from 1 - f to 1 + f, so it is 0 .. 1, not {number:g}: "
            "give both ends, (low, high), if more is meant"
        )
    return 1 - number, 1 + number


def _about_zero(number: float) -> Pair:
    if not number >= 0:
        raise ValueError(f"one number s stands for -s .. s, so it is 0 or more, not {number:g}")
    return -number, number


def _turn(number: float) -> Pair:
    low, high = _about_zero(number)
    if high > 0.5:
        raise ValueError(f"{number:g} is no share of a full turn, 0 .. 0.5: divide degrees by 360")
    return low, high


def _alone(number: float) -> Pair:
    return number, number


_FACTOR, _FACTOR_SCHEMA = _typed(0, math.inf, _about_one)
_TURN, _TURN_SCHEMA = _typed(-0.5, 0.5, _turn)
_SHIFT, _SHIFT_SCHEMA = _typed(-math.inf, math.inf, _about_zero)
_AMOUNT, _AMOUNT_SCHEMA = _typed(0, math.inf, _alone)
_ENDS, _ENDS_SCHEMA = _typed(-math.inf, math.inf)

Factor = Annotated[Pair, _FACTOR, _FACTOR_SCHEMA]  # one number f: 1 - f .. 1 + f
Turn = Annotated[Pair, _TURN, _TURN_SCHEMA]  # shares of a full turn; one number t: -t .. t
Shift = Annotated[Pair, _SHIFT, _SHIFT_SCHEMA]  # one number s: -s .. s
Amount = Annotated[Pair, _AMOUNT, _AMOUNT_SCHEMA]  # one number a: always a
Ends = Annotated[Pair, _ENDS, _ENDS_SCHEMA]  # always two numbers


def between(ends: Pair, draw: float) -> float:
    """Return the number of a range at a draw in [0, 1).

    >>> between((-2, 6), 0.25)
    0.0
    """
    low, high = ends
    return low + (high - low) * draw
