"""What the samples of a source consist of, for those who read them in another way: whole files, and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Decoding = Literal["rgb", "grayscale", "rgba", "mask", "npy"]  # how a file becomes an array


@dataclass(frozen=True)
class FieldFiles:
    """The files of one field, one for each sample."""

    path_of: Callable[[int], bytes]  # absolute
    sizes: NDArray[np.int64]  # bytes, as they were listed
    decoding: Decoding

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True)
class Contents:
    """All fields of a source, in the order of its spec: those of files, then columns with one row for each sample."""

    files: Mapping[str, FieldFiles]
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.files.values())))
