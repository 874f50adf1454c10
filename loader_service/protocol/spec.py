"""Name, shape and dtype of each field, known before anything runs.

A `Spec` describes one sample: its field shapes carry no batch axis. `describe` turns it into the one
line that error messages and `repr` show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Size = Annotated[int, Field(ge=0, lt=2**48)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FieldSpec:
    """Shape (without the batch axis) and dtype of one field of a sample.

    >>> FieldSpec((224, 224, 3), "uint8").nbytes
    150528
    """

    shape: tuple[Size, ...]
    dtype: str  # NumPy's name for it: "uint8", "float32"

    def __post_init__(self) -> None:
        dtype = np.dtype(self.dtype)
        if dtype.hasobject or dtype.kind in "USV" or dtype.isnative is False:
            raise ValueError(f"dtype {self.dtype!r} cannot be shared between processes: use a number or bool")

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    @classmethod
    def of(cls, value: np.ndarray) -> FieldSpec:
        """Return the spec that `value` itself has."""
        return cls(value.shape, value.dtype.name)


Spec = Mapping[str, FieldSpec]


def describe(spec: Spec) -> str:
    """Return one readable line.

    >>> describe({"x": FieldSpec((2, 3), "float32"), "label": FieldSpec((), "int64")})
    'x: float32 (2, 3), label: int64 ()'
    """
    return ", ".join(f"{name}: {field}" for name, field in spec.items())
