"""One `.npy` file a sample: `folder/ID.npy`, and a label for each id. The best known Keras generator's case.

The header is parsed once. Where a file begins with the same header bytes, reading it is open, one `preadv` of header
and body, close; the body goes straight into its row. Where it does not, NumPy reads it.
"""

from __future__ import annotations

import ast
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.collate import native
from loader_service.dataset.sources.contents import Contents, FieldFiles
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.ledger import error_about
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import PackedStrings, TableRef, pack_strings

MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # bytes; NumPy writes 128 for all but wild structured dtypes


class NpyFiles(Source):
    """Fields `x` and, where labels were given, `label`."""

    kind: Literal["npy_files"] = "npy_files"
    path: Annotated[str, Field(description="Folder of the files; relative to the config.")]  # absolute here
    ids: Annotated[dict[str, TableRef] | None, SkipJsonSchema()] = None  # packed strings; None: all files, sorted
    labels: Annotated[TableRef | None, SkipJsonSchema()] = None  # one row for each id

    def make_index(self, table: ReadTable) -> Index:
        """List the files, or look up those that `ids` name."""
        if self.ids is None:
            names = list_ids(self.path)
        else:
            _check_folder(self.path)
            packed = PackedStrings({name: table(ref) for name, ref in self.ids.items()})
            names = [os.fsdecode(packed[number]) for number in range(len(packed))]
            if not names:
                raise DatasetError("ids is empty: expected at least one file name; None takes all of the folder")
        sizes = np.empty(len(names), np.int64)
        for number, name in enumerate(names):
            try:
                sizes[number] = os.stat(f"{self.path}/{name}.npy").st_size  # noqa: PTH116 - a million times
            except FileNotFoundError:
                raise DatasetError(f"id {name!r} has no file {self.path}/{name}.npy") from None
        index: Index = {**as_sub_index("ids", pack_strings(names)), "sizes": sizes}
        if self.labels is not None:
            index["label"] = table(self.labels)
            if len(index["label"]) != len(names):
                raise DatasetError(f"{len(names):,} ids and {len(index['label']):,} labels: expected one for each")
        return index

    def reader(self, index: Index, table: ReadTable) -> NpyFilesReader:
        """Open the folder."""
        return NpyFilesReader(self.path, index)

    def contents(self, index: Index) -> Contents:
        """Return the files and their labels."""
        root, ids = os.fsencode(self.path) + b"/", PackedStrings(sub_index(index, "ids"))
        files = FieldFiles(lambda sample_id: root + ids[sample_id] + b".npy", index["sizes"], "npy")
        return Contents({"x": files}, {name: index[name] for name in ("label",) if name in index})


def list_ids(folder: str) -> list[str]:
    """Return the names of all `.npy` files of a folder, without the suffix, sorted.

    Raises:
        DatasetError: If there is no folder, or nothing in it.
    """
    _check_folder(folder)
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name[:-4] for entry in entries if entry.name.endswith(".npy") and not entry.name.startswith(".")
        )
    if not names:
        raise DatasetError(f"folder {folder!r} holds no .npy files")
    return names


def _check_folder(folder: str) -> None:
    path = Path(folder)
    if not path.is_dir():
        raise DatasetError(f"{folder!r} is no folder" if path.exists() else f"folder {folder!r} does not exist")


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file says before its numbers."""

    raw: bytes
    spec: FieldSpec
    fortran_order: bool
    big_endian: bool

    @classmethod
    def parse(cls, start: bytes) -> NpyHeader:
        """Read a header from the first bytes of a file.

        Raises:
            DatasetError: If it is none, or describes what cannot be a row.
        """
        if not start.startswith(MAGIC) or len(start) < 12:
            raise DatasetError("it is no .npy file: it does not begin with NumPy's mark")
        wide = start[6] >= 2
        (length,) = struct.unpack_from("<I" if wide else "<H", start, 8)
        begin = 12 if wide else 10
        if begin + length > len(start):
            raise DatasetError(f"its header of {length:,} bytes is cut off, or longer than {MAX_HEADER:,}")
        try:
            fields = ast.literal_eval(start[begin : begin + length].decode("utf-8" if start[6] >= 3 else "latin1"))
            dtype, shape, fortran = (
                np.dtype(fields["descr"]),
                tuple(fields["shape"]),
                bool(fields["fortran_order"]),
            )
            spec = FieldSpec.like(shape, dtype)
        except (ValueError, SyntaxError, KeyError, TypeError, DatasetError) as error:
            raise DatasetError(f"its header cannot be used: {error}") from error
        return cls(bytes(start[: begin + length]), spec, fortran and len(shape) > 1, not dtype.isnative)

    @property
    def direct(self) -> bool:
        """Whether the body's bytes are those of the row."""
        return not self.fortran_order and not self.big_endian


class NpyBodies:
    """Reads bodies straight into rows, and compares every header with that of the model."""

    def __init__(self, path_of: Callable[[int], bytes]) -> None:
        self.path_of = path_of

    def model(self, sample_id: int) -> FieldSpec:
        """Parse the header of its file, which all others are compared with."""
        with open(self.path_of(sample_id), "rb") as file:
            self._model, self._header = sample_id, NpyHeader.parse(file.read(MAX_HEADER))
        self._found = bytearray(len(self._header.raw))
        self._nbytes = len(self._header.raw) + self._header.spec.nbytes
        return self._header.spec

    def read(self, sample_id: int) -> np.ndarray:
        """Return what a file holds, of whatever shape: steps that come behind may make them alike."""
        array = np.empty(self._header.spec.room, self._header.spec.dtype)
        try:
            self.read_into(sample_id, array)
            return array
        except SpecMismatch:
            pass
        try:
            array = np.load(self.path_of(sample_id), allow_pickle=False)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        if not isinstance(array, np.ndarray):
            array.close()
            raise DatasetError("it is an archive of arrays: save each one as .npy")
        return native(array)

    def read_into(self, sample_id: int, out: np.ndarray) -> None:
        """Read one file's numbers into `out`, which is contiguous and has their size."""
        if not self._header.direct:
            self._read_otherwise(sample_id, out)
            return
        fd = os.open(self.path_of(sample_id), os.O_RDONLY)
        try:
            count = os.preadv(fd, [self._found, out.data], 0)
        finally:
            os.close(fd)
        if self._found != self._header.raw:
            self._read_otherwise(sample_id, out)
            return
        if count != self._nbytes:
            short = self._nbytes - count
            raise DatasetError(f"it is {short:,} bytes short of the {self._nbytes:,} that its header promises")

    def _read_otherwise(self, sample_id: int, out: np.ndarray) -> None:
        """Have NumPy read a file: Fortran-ordered, big-endian, or of another version of the format."""
        with open(self.path_of(sample_id), "rb") as file:
            found = NpyHeader.parse(file.read(MAX_HEADER))
            if found.spec != self._header.spec:
                model = os.fsdecode(self.path_of(self._model))
                raise SpecMismatch(
                    f"it holds {found.spec}, its siblings {self._header.spec} ({model}): "
                    "all files of a source must be alike"
                )
            file.seek(0)
            try:
                out.reshape(self._header.spec.room)[...] = np.load(file, allow_pickle=False)
            except ValueError as error:
                raise DatasetError(str(error)) from error


class NpyFilesReader:
    """Reads arrays, and their labels."""

    def __init__(self, folder: str, index: Index) -> None:
        root, ids = os.fsencode(folder) + b"/", PackedStrings(sub_index(index, "ids"))
        self._ids = ids
        self._bodies = NpyBodies(lambda sample_id: root + ids[sample_id] + b".npy")  # not a method: that were a cycle
        self._labels = index.get("label")
        self.columns = frozenset({"x"} if self._labels is None else {"x", "label"})

    def __len__(self) -> int:
        return len(self._ids)

    def describe(self, sample_id: int) -> str:
        """Return the path of a sample's file."""
        return os.fsdecode(self._bodies.path_of(sample_id))

    def model(self, sample_id: int) -> Spec:
        """Parse the header of its file."""
        spec = {"x": self._bodies.model(sample_id)}
        if self._labels is not None:
            spec["label"] = FieldSpec.like(self._labels.shape[1:], self._labels.dtype)
        return spec

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return the array, and its label."""
        sample: dict[str, Any] = {}
        if "x" in fields:
            sample["x"] = self._bodies.read(sample_id)
        if "label" in fields and self._labels is not None:
            sample["label"] = self._labels[sample_id]
        return sample

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Read many arrays, or labels."""
        if field == "label":
            assert self._labels is not None, "only a declared field is read"
            np.take(self._labels, ids, axis=0, out=out)
            return
        for row, sample_id in enumerate(ids.tolist()):
            try:
                self._bodies.read_into(sample_id, out[row : row + 1])
            except (OSError, DatasetError) as error:
                kind = SpecMismatch if isinstance(error, SpecMismatch) else SampleError
                raise error_about(sample_id, self.describe(sample_id), str(error), kind) from error
