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

BFLOAT16 = "bfloat16"  # NumPy knows it once the package ml_dtypes is imported, which comes with TensorFlow and JAX
DTYPES = frozenset(np.dtype(code).name for code in "?bhilqBHILQefdgFDG")  # bool and numbers


def known_dtype(dtype: str) -> str:
    """Return the name of a dtype that processes can share; ValueError for any other."""
    if dtype == BFLOAT16:
        try:
            import ml_dtypes  # noqa: F401 - NumPy knows bfloat16 from here on
        except ImportError:
            raise ValueError(f"dtype {dtype!r} needs the package ml_dtypes: pip install ml_dtypes") from None
        return dtype
    # Not np.dtype(dtype): for text from outside it may raise anything, a SyntaxError included.
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} cannot be shared between processes: use a number or bool")
    return dtype


Size = Annotated[int, Field(ge=0, lt=2**48)]
Dtype = Annotated[str, AfterValidator(known_dtype)]  # NumPy's name for it: "uint8", "float32"


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
        if name not in DTYPES and name != BFLOAT16:
            raise DatasetError(f"dtype {name!r} cannot be shared between processes: use a number or bool")
        return cls(shape, name)


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class DatasetInfo:
    """What a stream over a dataset must know: all that opening it has found out.

    `parts` are what the key is made of, to say what has changed where keys differ: "source", "index", "transforms",
    "selection", "order", "batch", and "code of MODULE" for each module of the user's, or "code" for many. Each is told
    in some words, in a short hash that begins with #, or in both.

    `class_counts` are the samples of each class, 0, 1, ..., in the one field of `targets`; empty where they are not
    known without reading files.
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
    short: list[int] = Field(default_factory=list)  # samples of an epoch's last batches, those that have too few
    stage: dict[str, FieldSpec] = Field(default_factory=dict)  # fields of rows, where the batch is made out of them
    whole: bool = False  # a batch is made in one piece; how many rows it has is known when it is made
    structure: str | dict[str, Any] | None = None  # of such batches: see structure.py
    live: bool = False  # batches are made once, in the order in which they are asked for, by one worker
    most_replaced: Annotated[int, Field(ge=0)] = 0  # samples; 0: one that cannot be made is an error
    parts: dict[str, str] = Field(default_factory=dict)
    class_counts: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    bundle: Annotated[int, Field(ge=1, lt=2**16)] = 1  # of how many small batches one of these consists: see bundles.py

    @property
    def alike(self) -> bool:
        """Whether all batches have the same shapes, but for those that are short."""
        return not self.whole and all(field.form == "dense" and not field.varies for field in self.spec.values())

    def rows(self, n: int) -> int:
        """Return how many rows batch `n` has, padding included; where that is known when it is made, about how many."""
        return self.batch_size if self.whole or self.remainder == "pad" else self.samples_of(n)

    def samples_of(self, n: int) -> int:
        """Return how many rows of batch `n` are no padding."""
        short = n % self.batches_per_epoch - self.batches_per_epoch + len(self.short)
        return self.short[short] if short >= 0 else self.batch_size

    def padding_before(self, n: int) -> int:
        """Return how many rows of all batches before `n` are padding."""
        if self.remainder != "pad":
            return 0
        epoch, batch = divmod(n, self.batches_per_epoch)
        padding = [self.batch_size - samples for samples in self.short]
        return epoch * sum(padding) + sum(padding[: max(0, batch - self.batches_per_epoch + len(padding))])


Spec = Mapping[str, FieldSpec]


def describe(spec: Spec) -> str:
    """Return one readable line.

    >>> describe({"x": FieldSpec((2, 3), "float32"), "label": FieldSpec((), "int64")})
    'x: float32 (2, 3), label: int64 ()'
    """
    return ", ".join(f"{name}: {field}" for name, field in spec.items())
