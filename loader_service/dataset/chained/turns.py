"""A warning for those who meant radians, or another unit than degrees."""

from __future__ import annotations

import warnings

import numpy as np

from loader_service.protocol.errors import DatasetWarning

WHOLE_TURN = 360  # degrees


def warn_of_turns(method: str, argument: str, degrees: object) -> None:
    """Warn of an angle, or a range of them, beyond a whole turn; the method's caller is who is told."""
    angles = np.asarray(degrees)
    if angles.dtype.kind in "iuf" and angles.size and np.abs(angles).max() > WHOLE_TURN:
        told = f"{method}: {argument}={degrees} is more than a whole turn: angles are in degrees"
        warnings.warn(told, DatasetWarning, stacklevel=3)
