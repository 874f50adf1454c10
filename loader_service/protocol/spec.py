"""Name, shape and dtype of each field, known before anything runs.

A `Spec` describes one sample: its field shapes carry no batch axis. An axis whose size differs, from sample to sample
or from batch to batch, is None there. `describe` turns a spec into the one line that error messages and `repr` show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from loader_service.protocol.errors import DatasetError

DTYPES = frozenset(np.dtype(code).name for code in "?bhilqBHILQefdgFDG")  # bool and numbers


def _known(dtype: str) -> str:
    # Not np.dtype(dtype): for text from outside it may raise anything, a SyntaxError included.
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} cannot be shared between processes: use a number or bool")
    return dtype


Size = Annotated[int, Field(ge=0, lt=2**48)]
Dtype = Annotated[str, AfterValidator(_known)]  # NumPy's name for it: "uint8", "float32"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FieldSpec:
    """Shape (without the batch axis) and dtype of one field of a sample.

    >>> FieldSpec((224, 224, 3), "uint8").nbytes
    150528
    >>> FieldSpec((None, 10), "float32", most=(200,)).nbytes
    8000

    Attributes:
        most: What stands for each None where room is reserved: the largest sizes of the axes that differ.
        form: How a batch holds rows that differ. "dense": one array, all rows of one shape; "ragged": the entries of
            all rows, one after the other, and where each row ends; "text": the same, of UTF-8 bytes.
    """

    shape: tuple[Size | None, ...]
    dtype: Dtype
    most: tuple[Size, ...] = ()
    form: Literal["dense", "ragged", "text"] = "dense"

    @property
    def varies(self) -> bool:
        """Whether the shape of a batch's array is known only when it is made."""
        return None in self.shape or self.form != "dense"

    @property
    def room(self) -> tuple[int, ...]:
        """The shape of a row for which room is reserved."""
        most = iter(self.most)
        return tuple(next(most, 0) if size is None else size for size in self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of one row, at most."""
        return math.prod(self.room) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        told = f"{self.dtype} {self.shape}"
        return told if self.form == "dense" else f"{self.form} {told}"

    @classmethod
    def of(cls, value: np.ndarray) -> FieldSpec:
        """Return the spec that `value` itself has; raises as `like`."""
        return cls.like(value.shape, value.dtype)

    @classmethod
    def like(cls, shape: tuple[int, ...], dtype: np.dtype) -> FieldSpec:
        """Return the spec of an array of this shape and dtype, in the machine's own byte order.

        Raises:
            DatasetError: If it holds anything but numbers or bools.
        """
        name = "structured" if dtype.names else str(dtype.newbyteorder("="))
        if name not in DTYPES:
            raise DatasetError(f"dtype {name!r} cannot be shared between processes: use a number or bool")
        return cls(shape, name)


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class DatasetInfo:
    """What a stream over a dataset must know: all that opening it has found out.

    `parts` are what the key is made of, to say what has changed where keys differ: "source", "index", "transforms",
    "order", "batch", and "code of MODULE" for each module of the user's, or "code" for many. Each is told in some
    words, in a short hash that begins with #, or in both.
    """

    key: str
    spec: dict[str, FieldSpec]
    batch_size: Annotated[int, Field(ge=1, lt=2**31)]  # rows
    samples: Annotated[int, Field(ge=0, lt=2**63)]
    batches_per_epoch: Annotated[int, Field(ge=1, lt=2**48)]
    shuffled: bool
    inputs: list[str]  # fields that a model gets as x, unless told otherwise
    targets: list[str]  # as y
    class_names: list[str]
    remainder: Literal["keep", "drop", "pad"] = "keep"
    stage: dict[str, FieldSpec] = Field(default_factory=dict)  # fields of rows, where the batch is made out of them
    whole: bool = False  # a batch is made in one piece; how many rows it has is known when it is made
    structure: str | dict[str, Any] | None = None  # of such batches: see structure.py
    live: bool = False  # batches are made once, in the order in which they are asked for, by one worker
    most_replaced: Annotated[int, Field(ge=0)] = 0  # samples; 0: one that cannot be made is an error
    parts: dict[str, str] = Field(default_factory=dict)

    def rows(self, n: int) -> int:
        """Return how many rows batch `n` has, padding included; where that is known when it is made, about how many."""
        if self.whole or self.remainder == "pad":
            return self.batch_size
        return min(self.batch_size, self.samples - (n % self.batches_per_epoch) * self.batch_size)


Spec = Mapping[str, FieldSpec]


def describe(spec: Spec) -> str:
    """Return one readable line.

    >>> describe({"x": FieldSpec((2, 3), "float32"), "label": FieldSpec((), "int64")})
    'x: float32 (2, 3), label: int64 ()'
    """
    return ", ".join(f"{name}: {field}" for name, field in spec.items())
