"""The layout of a pack: a file that holds all samples of a source, to be mapped. All numbers are little-endian.

    0       head     64 bytes: MAGIC, version (u32), 0 (u32), where the index begins (u64), bytes of it (u64),
                     xxh3_128 of it (16 bytes), 8 zero bytes, xxh3_64 of the 56 bytes before; then zeros
    4096    records  field after field, each from a multiple of 4096 on; within a field, sample after sample
    ...     index    from a multiple of 4096 on, to the end of the file

A record is what one sample has in one field: a file as it was; or the numbers of an array, in C order. It begins at a
multiple of 64; but a record of the shape and dtype of the one before it follows right behind that one. So where all
samples of a field are alike, the field is one array, without gaps. Gaps are zeros.

The index says how long its description is (u64), then comes the description (msgpack), then, from multiples of 64 on,
counted from the index' begin, arrays:

    records.K.offset, .nbytes     i8    of field K, from 0: where the record of each sample is in the file
    records.K.checksum            u8    its xxh3_64
    records.K.form                u4    which of the field's forms it has: see `Form`
    column.K                            labels: one row for each sample
    names.bytes, names.offsets          what samples are called: packed strings (protocol/tables.py)

Checksums are xxh3, which reads 30 GB/s within a cache, where zlib's crc32 reads 2 GB/s on the same core.
The index' hash stands for all the content, since the checksum of each record is in it. The head is written last: what
is not finished begins with zeros, and is no pack. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import msgpack
import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from loader_service.dataset.sources.source import sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.tables import PackedStrings

MAGIC = b"LSPACK\r\n"  # a transfer "as text" changes it
VERSION = 1
PAGE = 4096  # bytes: of the head, and what fields and the index begin at
ALIGNMENT = 64  # bytes: a cache line
HEAD = struct.Struct("<8sIIQQ16s8xQ")
CHECKED = HEAD.size - 8  # bytes of the head that its checksum is of
ESCAPE = "surrogateescape"  # file names may be no UTF-8
RECORD = {"offset": "<i8", "nbytes": "<i8", "checksum": "<u8", "form": "<u4"}


@dataclass(frozen=True)
class Form:
    """What records of a field have in common.

    Attributes:
        dtype: Of the array whose numbers they are, by name; "" where they are whole files, to be decoded.
        shape: Of that array.
        header: What stood before the numbers in their files: with it, a record is the file again.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    header: bytes = b""

    @property
    def layout(self) -> tuple[str, tuple[int, ...]]:
        """What two records must have in common to be rows of one array."""
        return self.dtype, self.shape


FILE = Form()


@dataclass(frozen=True)
class PackField:
    """One field, as the index describes it; a column, if it has no forms."""

    name: str
    decoding: str = ""  # of whole files
    forms: tuple[Form, ...] = ()

    @property
    def uniform(self) -> bool:
        """Whether its records are the rows of one array."""
        return len({form.layout for form in self.forms}) == 1 and self.forms[0].dtype != ""


@dataclass(frozen=True)
class Description:
    """What the index says in words."""

    samples: int
    fields: tuple[PackField, ...]  # in the order of the source's spec
    class_names: tuple[str, ...]
    source: Mapping[str, Any]  # the declaration of what was packed
    decoded: bool

    def to_plain(self) -> dict[str, Any]:
        """Return what msgpack takes."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Return what `to_plain` described."""
        fields = [
            PackField(
                field["name"],
                field["decoding"],
                tuple(Form(form["dtype"], tuple(form["shape"]), form["header"]) for form in field["forms"]),
            )
            for field in plain["fields"]
        ]
        return cls(
            plain["samples"], tuple(fields), tuple(plain["class_names"]), plain["source"], bool(plain["decoded"])
        )


def align(offset: int, alignment: int) -> int:
    """Return the next multiple.

    >>> align(65, 64), align(64, 64)
    (128, 64)
    """
    return -(-offset // alignment) * alignment


def encode_index(description: Description, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of an index."""
    placed: dict[str, list[Any]] = {}
    end = 0
    for name, array in arrays.items():
        placed[name] = [array.dtype.name, list(array.shape), end]
        end = align(end + array.nbytes, ALIGNMENT)
    said: bytes = msgpack.packb({**description.to_plain(), "arrays": placed}, unicode_errors=ESCAPE)
    begin = align(8 + len(said), ALIGNMENT)
    index = bytearray(begin + end)
    index[: 8 + len(said)] = struct.pack("<Q", len(said)) + said
    for (_, _, offset), array in zip(placed.values(), arrays.values(), strict=True):
        index[begin + offset : begin + offset + array.nbytes] = np.ascontiguousarray(array).tobytes()
    return bytes(index)


def encode_head(index_offset: int, index: bytes) -> bytes:
    """Return the first page of a pack with this index."""
    start = HEAD.pack(MAGIC, VERSION, 0, index_offset, len(index), xxh3_128_digest(index), 0)[:CHECKED]
    return (start + struct.pack("<Q", xxh3_64_intdigest(start))).ljust(PAGE, b"\0")


def needs_little_endian() -> None:
    """Refuse where numbers lie in memory otherwise than in a pack."""
    if sys.byteorder != "little":
        raise DatasetError("packs hold little-endian numbers, which this machine cannot map")


class OpenPack:
    """A pack, mapped; its head was found to be whole, and its size right. Arrays over it keep it mapped."""

    def __init__(self, path: str) -> None:
        """Map a pack.

        Raises:
            DatasetError: If it is none, is cut off, appended to, damaged at its head, or of a later version.
        """
        needs_little_endian()
        self.path = path
        try:
            with open(path, "rb") as file:
                self.stat = os.fstat(file.fileno())
                self.index_offset, self.index_nbytes, self.content = _parse_head(path, file.read(PAGE), self.stat)
                self.memory = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        except FileNotFoundError:
            raise DatasetError(f"pack {path!r} does not exist") from None
        except IsADirectoryError:
            raise DatasetError(f"{path!r} is a folder, expected a pack: loader-service pack makes one of it") from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"pack {path!r} cannot be mapped: {error}") from error

    @property
    def identity(self) -> tuple[int, int]:
        """Bytes, and the time of change in ns."""
        return self.stat.st_size, self.stat.st_mtime_ns

    def check_index(self) -> None:
        """Read the whole index.

        Raises:
            DatasetError: If it is not what the head says.
        """
        if xxh3_128_digest(self.memory[self.index_offset :]) != self.content:
            raise DatasetError(f"pack {self.path!r} is damaged: its index is not what it was written as; pack it again")

    @cached_property
    def _said(self) -> dict[str, Any]:
        (length,) = struct.unpack_from("<Q", self.memory, self.index_offset)
        start = self.index_offset + 8
        try:
            said: dict[str, Any] = msgpack.unpackb(self.memory[start : start + length], unicode_errors=ESCAPE)
        except ValueError as error:
            raise DatasetError(f"pack {self.path!r} is damaged: its index cannot be read: {error}") from error
        return {**said, "begin": self.index_offset + align(8 + length, ALIGNMENT)}

    @cached_property
    def description(self) -> Description:
        """What the index says in words."""
        return Description.from_plain(self._said)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the index, where they are."""
        return {
            name: np.ndarray(shape, dtype, self.memory, self._said["begin"] + offset)
            for name, (dtype, shape, offset) in self._said["arrays"].items()
        }

    @cached_property
    def names(self) -> PackedStrings:
        """What samples are called."""
        return PackedStrings(sub_index(self.arrays, "names"))

    def name(self, sample_id: int) -> str:
        """Return what a sample is called."""
        return os.fsdecode(self.names[sample_id])

    def describe_fields(self) -> dict[str, str]:
        """Return a line for each field."""
        told = {}
        for number, field in enumerate(self.description.fields):
            column = self.arrays.get(f"column.{number}")
            layouts = sorted({form.layout for form in field.forms if form.dtype})
            if column is not None:
                told[field.name] = f"{column.dtype.name} {column.shape[1:]}"
            elif field.uniform:
                told[field.name] = f"{layouts[0][0]} {layouts[0][1]}, one array"
            elif FILE in field.forms:
                told[field.name] = "files of .npy" if field.decoding == "npy" else f"pictures, {field.decoding}"
            else:
                told[field.name] = f"arrays of {len(layouts):,} shapes"
        return told

    def records(self, field: int) -> dict[str, np.ndarray]:
        """Return the records of a field, by its number: empty, if it is a column."""
        return sub_index(self.arrays, f"records.{field}")


def _parse_head(path: str, page: bytes, stat: os.stat_result) -> tuple[int, int, bytes]:
    """Return where the index is, its size, and its hash."""
    if not page.startswith(MAGIC):
        unfinished = page.count(0) == len(page) > 0
        what = "is not finished: go on with the loader-service pack that began it" if unfinished else "is no pack"
        raise DatasetError(f"{path!r} {what}")
    if len(page) < HEAD.size:
        raise DatasetError(f"pack {path!r} is cut off: it ends within its head")
    _, version, _, offset, nbytes, content, checksum = HEAD.unpack_from(page)
    if version > VERSION:
        raise DatasetError(
            f"pack {path!r} is of version {version:,}, and this loader-service reads version {VERSION}: it takes a "
            "later loader-service, or the pack made anew"
        )
    if xxh3_64_intdigest(page[:CHECKED]) != checksum:
        raise DatasetError(f"pack {path!r} is damaged: its head is not what it was written as; pack it again")
    missing = offset + nbytes - stat.st_size
    if missing:
        what = "cut off" if missing > 0 else "appended to"
        raise DatasetError(
            f"pack {path!r} was {what}: it has {stat.st_size:,} bytes, expected {offset + nbytes:,}; copy it again"
        )
    return offset, nbytes, content


def gaps(spans: Iterable[tuple[int, int]], end: int) -> Iterable[tuple[int, int]]:
    """Yield what lies between spans that follow one another, from the head on.

    >>> list(gaps([(4096, 4100), (4160, 4170)], 8192))
    [(64, 4096), (4100, 4160), (4170, 8192)]
    """
    last = HEAD.size
    for start, stop in spans:
        if start > last:
            yield last, start
        last = stop
    if end > last:
        yield last, end
