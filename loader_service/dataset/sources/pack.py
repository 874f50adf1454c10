"""A pack: one mapped file with all samples of a source, as `loader-service pack` writes it (packing/format.py).

Fields whose samples are alike are gathered out of the mapping, many rows at once; others are read one by one, and
pictures are decoded from where they lie. Each record is compared with its checksum when a process reads it first: that
takes about as long as gathering it (128 KiB: 14 us beside 17 us, while other work ran), and nothing from then on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from xxhash import xxh3_64_intdigest

from loader_service.dataset.packing.format import OpenPack, PackField
from loader_service.dataset.packing.records import decoder
from loader_service.dataset.sources.arrays import take_rows
from loader_service.dataset.sources.decoding import CHANNELS, EncodedJpeg, left_encoded
from loader_service.dataset.sources.npy_bodies import MAX_HEADER, NpyHeader
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ledger import error_about
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import PackedStrings, pack_strings


class Pack(Source):
    """What was packed: the same samples, names and labels."""

    kind: Literal["pack"] = "pack"
    path: Annotated[str, Field(description="File that loader-service pack has written; relative to the config.")]

    def make_index(self, table: ReadTable) -> Index:
        """Check the pack's own index, whose hash tells what is in it; and that of the file."""
        pack = OpenPack(self.path)
        pack.check_index()
        names = list(pack.description.class_names)
        return {
            "content": np.frombuffer(pack.content, np.uint8),
            "file": np.asarray(pack.identity, np.int64),
            **(as_sub_index("classes", pack_strings(names)) if names else {}),
        }

    def reader(self, index: Index, table: ReadTable) -> PackReader:
        """Map the pack."""
        pack = OpenPack(self.path)
        if pack.content != index["content"].tobytes() or pack.identity != tuple(index["file"].tolist()):
            raise DatasetError(f"pack {self.path!r} was replaced since the dataset was opened: open it again")
        return PackReader(pack)

    def class_names(self, index: Index) -> list[str]:
        """Return those of the source that was packed."""
        if "classes.offsets" not in index:
            return []
        names = PackedStrings(sub_index(index, "classes"))
        return [names[number].decode() for number in range(len(names))]


class _Records:
    """The records of one field."""

    def __init__(self, pack: OpenPack, number: int, field: PackField) -> None:
        self._pack, self._field = pack, field
        records = pack.records(number)
        self._offsets, self._nbytes = records["offset"], records["nbytes"]
        self._checksums, self._forms = records["checksum"], records["form"]
        self._unread = len(self._offsets)
        self._seen = bytearray(self._unread)
        self._is_seen = np.frombuffer(self._seen, np.bool_)
        self._decode = decoder(field.decoding)
        self.color = next((color for color in CHANNELS if color == field.decoding), None)
        self.rows: np.ndarray | None = None  # all of them, where they are alike
        if field.uniform:
            form = field.forms[0]
            self.rows = np.ndarray((self._unread, *form.shape), form.dtype, pack.memory, int(self._offsets[0]))

    def model(self, sample_id: int) -> FieldSpec:
        """Return what a sample looks like."""
        form = self._field.forms[self._forms[sample_id]]
        if form.dtype:
            return FieldSpec(form.shape, form.dtype)
        if self._field.decoding == "npy":
            return NpyHeader.parse(bytes(self._bytes(sample_id)[:MAX_HEADER])).spec
        return FieldSpec.of(self.read(sample_id))

    def read(self, sample_id: int) -> np.ndarray:
        """Return an array: a view of the pack, or what its bytes are decoded to."""
        self._check(sample_id)
        form = self._field.forms[self._forms[sample_id]]
        if form.dtype:
            return np.ndarray(form.shape, form.dtype, self._pack.memory, int(self._offsets[sample_id]))
        return self._decode(self._bytes(sample_id))

    def read_encoded(self, sample_id: int) -> np.ndarray | EncodedJpeg:
        """Return a picture that may still be as in its file."""
        assert self.color is not None, "only pictures are encoded"
        if self._field.forms[self._forms[sample_id]].dtype:
            return self.read(sample_id)
        self._check(sample_id)
        return left_encoded(self._bytes(sample_id), self.color, shrinks=False)

    def take(self, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Gather rows of samples that are alike."""
        take_rows(self.checked_rows(ids), ids, out)

    def checked_rows(self, ids: NDArray[np.int64]) -> np.ndarray:
        """Return all rows of samples that are alike; those of these samples are known to be sound."""
        assert self.rows is not None, "only such fields are columns"
        if self._unread:
            self._check_all(ids[~self._is_seen[ids]])
        return self.rows

    def _check(self, sample_id: int) -> None:
        """Compare a record with its checksum, the first time."""
        if not self._seen[sample_id]:
            if xxh3_64_intdigest(self._bytes(sample_id)) != self._checksums[sample_id]:
                raise DatasetError(
                    f"its bytes in the pack {self._pack.path!r} are damaged: pack it again, or copy it again; "
                    "loader-service pack --verify finds all that are"
                )
            self._seen[sample_id] = True
            self._unread -= 1

    def _check_all(self, ids: NDArray[np.int64]) -> None:
        """Compare records that were not read before, some of which may be named twice; name one that is damaged."""
        memory, hashed = self._pack.memory, xxh3_64_intdigest
        starts = self._offsets[ids]
        found = [
            hashed(memory[start:stop])
            for start, stop in zip(starts.tolist(), (starts + self._nbytes[ids]).tolist(), strict=True)
        ]
        sound = np.asarray(found, np.uint64) == self._checksums[ids]
        self._is_seen[ids[sound]] = True
        self._unread = len(self._seen) - int(np.count_nonzero(self._is_seen))
        for sample_id in ids[~sound].tolist():
            try:
                self._check(sample_id)
            except DatasetError as error:
                raise error_about(sample_id, self._pack.name(sample_id), str(error)) from error

    def _bytes(self, sample_id: int) -> memoryview:
        start = int(self._offsets[sample_id])
        return self._pack.memory[start : start + int(self._nbytes[sample_id])]


class PackReader:
    """Reads samples out of a mapped pack."""

    shrinks = False  # they are what was packed

    def __init__(self, pack: OpenPack) -> None:
        self._pack = pack
        fields = list(enumerate(pack.description.fields))
        self._order = [field.name for _, field in fields]
        self._records = {field.name: _Records(pack, number, field) for number, field in fields if field.forms}
        self._columns = {field.name: pack.arrays[f"column.{number}"] for number, field in fields if not field.forms}
        alike = {name for name, records in self._records.items() if records.rows is not None}
        self.columns = frozenset(alike | self._columns.keys())
        self.pictures = frozenset(name for name, records in self._records.items() if records.color is not None)

    def __len__(self) -> int:
        return self._pack.description.samples

    def model(self, sample_id: int) -> Spec:
        """Return what a sample looks like; pictures are decoded for that."""
        specs = {name: records.model(sample_id) for name, records in self._records.items()}
        specs |= {name: FieldSpec.like(rows.shape[1:], rows.dtype) for name, rows in self._columns.items()}
        return {name: specs[name] for name in self._order}

    def read(self, sample_id: int, fields: frozenset[str], encoded: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return these fields of a sample; pictures as in their files, where that is wanted."""
        sample: dict[str, Any] = {}
        for name in self._order:
            if name in fields:
                column, records = self._columns.get(name), self._records.get(name)
                if records is not None:
                    sample[name] = records.read_encoded(sample_id) if name in encoded else records.read(sample_id)
                elif column is not None:
                    sample[name] = column[sample_id]
        return sample

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Gather rows."""
        if field in self._columns:
            take_rows(self._columns[field], ids, out)
        else:
            self._records[field].take(ids, out)

    def rows(self, field: str, ids: NDArray[np.int64]) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return an array in which some rows lie, and at which places."""
        column = self._columns.get(field)
        return (self._records[field].checked_rows(ids) if column is None else column), ids

    def describe(self, sample_id: int) -> str:
        """Return what its source called a sample: the path of its file there."""
        return self._pack.name(sample_id)
