"""A warning for those who meant radians, or another unit than degrees."""

from __future__ import annotations

import warnings

WHOLE_TURN = 360  # degrees


def warn_of_turns(method: str, argument: str, degrees: object) -> None:
    """Warn of an angle of more than a whole turn; the method's caller is who is told."""
    if isinstance(degrees, float | int) and degrees > WHOLE_TURN:
        told = f"{method}: {argument}={degrees:g} is more than a whole turn: it is in degrees, to either side"
        warnings.warn(told, stacklevel=3)
