"""What a source is: a declaration that makes an index once, and a reader over that index in every process.

    declaration   plain data: kind, paths, options                      travels in messages
    index         arrays: names, sizes, labels of all samples           made by one worker, mapped by all
    reader        open files, parsed headers: `reader.read(i)`          one in each process

The index is what the dataset's key fingerprints: one more file in a folder is another dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from loader_service.dataset.selection.selection import Everything, Selection
from loader_service.dataset.sources.contents import Contents
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.spec import Spec
from loader_service.protocol.tables import TableRef

Index = dict[str, np.ndarray]


class ReadTable(Protocol):
    """Returns the array that a declaration names by its hash."""

    def __call__(self, ref: TableRef, *, private: bool = False) -> np.ndarray:
        """Return it to be read; or, if `private`, to be written as well, which nobody else will see."""


class Reader(Protocol):
    """Reads samples of one source, in one process."""

    def model(self, sample_id: int) -> Spec:
        """Take a sample as the model of all others, before any is read. Return its fields."""

    @property
    def columns(self) -> frozenset[str]:
        """Fields that `read_column` can read."""

    def __len__(self) -> int:
        """Samples."""

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return these fields of one sample."""

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Read one field of many samples into `out`, of shape (len(ids), *shape), which has the field's dtype."""

    def describe(self, sample_id: int) -> str:
        """Return what an error message calls this sample: its file, where it has one."""


@runtime_checkable
class PictureReader(Reader, Protocol):
    """Reads pictures, and can leave them as they are in their files until it is known which part is wanted."""

    pictures: frozenset[str]  # fields that it can leave encoded: see decoding.EncodedJpeg
    shrinks: bool  # whether they may be decoded in a smaller size, where that is enough

    def read(self, sample_id: int, fields: frozenset[str], encoded: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return these fields of one sample; of `encoded`, pictures that are an EncodedJpeg, or decoded."""


class Source(BaseModel):
    """The declaration of a source; immutable, and plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    whole: ClassVar[bool] = False  # its items are batches, not samples
    live: ClassVar[bool] = False  # it can only be read from front to back

    kind: str

    @property
    def draws(self) -> bool:
        """Whether each epoch has its own samples: then no step may select among them."""
        return False

    def make_index(self, table: ReadTable) -> Index:
        """List what there is to read; once for each dataset.

        Raises:
            DatasetError: If there is nothing to read, or the declaration is wrong.
        """
        raise NotImplementedError(f"{type(self).__name__} must make its index")

    def reader(self, index: Index, table: ReadTable) -> Reader:
        """Open the source in this process."""
        raise NotImplementedError(f"{type(self).__name__} must open its reader")

    def selection(self, reader: Reader, index: Index, seed: int) -> Selection:
        """Return the samples that it has, before any step selects among them; `seed` is the dataset's."""
        return Everything(len(reader))

    def readers(self, reader: Reader) -> list[tuple[int, Reader]]:
        """Return what a reader of it is put together of, with the id of each one's first sample."""
        return [(0, reader)]

    def class_names(self, index: Index) -> list[str]:
        """Return the names of the classes that labels count; empty where the source has none."""
        return []

    def contents(self, index: Index) -> Contents | None:
        """Return the files and columns that its samples consist of; None, if they are made otherwise."""
        return None

    def user_code(self) -> list[UserCode]:
        """Return the user modules whose source belongs to the key."""
        return []


def sub_index(index: Mapping[str, np.ndarray], name: str) -> Index:
    """Return the entries "name.x" of an index, as "x".

    >>> sorted(sub_index({"paths.bytes": np.zeros(1), "paths.offsets": np.zeros(1), "sizes": np.zeros(1)}, "paths"))
    ['bytes', 'offsets']
    """
    return {key.removeprefix(f"{name}."): value for key, value in index.items() if key.startswith(f"{name}.")}


def as_sub_index(name: str, arrays: Index) -> Index:
    """Return arrays under "name.x": the inverse of `sub_index`."""
    return {f"{name}.{key}": value for key, value in arrays.items()}
