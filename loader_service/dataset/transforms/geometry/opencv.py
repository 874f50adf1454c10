"""What OpenCV takes, and what it makes of it."""

from __future__ import annotations

import numpy as np

SMOOTH_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")  # that it interpolates
DTYPES = (*SMOOTH_DTYPES, "bool", "int8", "int32")  # that are moved, with the pixels as they are
OPENCV_DTYPES = frozenset(np.dtype(name) for name in DTYPES if name != "bool")
AT_ONCE = 4  # channels that a warp takes
LARGEST = 32766  # pixels along a side that it takes


def with_channels(made: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return a picture with the single channel's axis, which OpenCV drops."""
    return made if made.ndim == like.ndim else made[:, :, None]
