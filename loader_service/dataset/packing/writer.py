"""A source -> a pack. It is written to `FILE.part` (part.py), and has its name when it is whole; killed, it goes on.

Files are read in threads, and written in order: the bytes of a pack depend on its source alone, not on how often
making it was interrupted.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.packing.changes import refuse_changes
from loader_service.dataset.packing.checking import find_damage
from loader_service.dataset.packing.format import (
    RECORD,
    VERSION,
    Description,
    PackField,
    encode_index,
    needs_little_endian,
)
from loader_service.dataset.packing.journal import Plan
from loader_service.dataset.packing.part import Part
from loader_service.dataset.packing.records import Record, make_record
from loader_service.dataset.sources.contents import Contents, FieldFiles
from loader_service.dataset.sources.source import ReadTable, Source, as_sub_index
from loader_service.machine import usable_cores
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.tables import pack_strings

CHUNK_BYTES, CHUNK_FILES = 8 * 2**20, 64  # at most, that a thread reads at a time; a larger file alone
AHEAD_BYTES = 128 * 2**20  # of files that are read, and not yet written

Told = Callable[[int, int], None]  # is told of steps that are done, and of all: to write a file, and to read it back

REASONS = {  # why a source is not packed
    "arrays": "its arrays are mapped already, and no slower than a pack would be",
    "series": "its series are mapped already, and no slower than a pack would be",
    "volumes": "its volumes are mapped already, and no slower than a pack would be",
    "patches": "its volumes are mapped already, and no slower than a pack would be",
    "python": "its samples are made by your code",
    "generator": "its samples are live: they are others each time",
    "keras": "its items are whole batches, made by your code",
    "concat": "it is put together of others: pack each of them, and concat the packs",
    "mix": "it is put together of others: pack each of them, and mix the packs",
    "pack": "it is one already",
}


@dataclass(frozen=True)
class Packed:
    """What was done."""

    samples: int
    files: int
    resumed: int  # of these files, those that were there from before
    read: int  # bytes of all files
    nbytes: int  # of the pack


def write_pack(
    source: Source,
    table: ReadTable,
    output: str,
    *,
    decode: bool = False,
    force: bool = False,
    told: Told = lambda done, total: None,
) -> Packed:
    """Pack all samples of a source into one file; go on where an earlier try at it has ended.

    Args:
        output: The file; it must not exist.
        decode: Keep the arrays that files are decoded to, not their bytes.
        force: Replace the file if it exists; begin anew where an earlier try cannot be gone on with.
    Raises:
        DatasetError: If the source cannot be packed, or the file not be written; names what has changed since an
            earlier try.
    """
    needs_little_endian()
    try:
        index = source.make_index(table) if source.kind not in REASONS else {}
    except OSError as error:
        raise DatasetError(f"the source cannot be opened: {error}") from error
    contents = source.contents(index)
    if contents is None:
        reason = REASONS.get(source.kind, "its samples are not each in files of their own")
        raise DatasetError(f"{source.kind}: such a source is not packed: {reason}")
    if Path(output).exists() and not force:
        raise DatasetError(f"{output!r} exists: --force replaces it, or -o names another file")
    reader = source.reader(index, table)
    names = [reader.describe(sample_id) for sample_id in range(len(contents))]
    class_names = source.class_names(index)
    plan = _plan(source, contents, names, class_names, decode=decode)
    total = len(contents) * len(contents.files)
    try:
        with Part(f"{output}.part") as part:
            resumed = _begin(part, plan, contents, force=force)
            try:
                _write_records(part, contents, decode=decode, told=lambda done, _: told(done, 2 * total))
                nbytes = _finish(part, contents, class_names, names, plan)
            except OSError as error:
                raise DatasetError(
                    f"{part.path!r} cannot be written: {error.strerror}. {part.saved:,} of {total:,} files are safe in "
                    "it: mend that, and run the same command again, to go on from there"
                ) from error
            _read_back(part, plan, lambda done, _: told(total + done, 2 * total))
            part.become(output)
            read = sum(int(written.table["size"].sum()) for written in part.written.values())
    except OSError as error:
        raise DatasetError(f"{output!r} cannot be written: {error.strerror}") from error
    return Packed(len(contents), total, resumed, read, nbytes)


def _plan(source: Source, contents: Contents, names: list[str], class_names: list[str], *, decode: bool) -> Plan:
    """Return what makes a pack what it is, apart from the content of files: as the journal holds it."""
    digest = hashlib.blake2b(repr((names, class_names)).encode(errors="surrogateescape"), digest_size=16)
    for name, column in contents.columns.items():
        digest.update(repr((name, column.dtype.name, column.shape)).encode() + np.ascontiguousarray(column).tobytes())
    return {
        "version": VERSION,
        "source": source.model_dump(mode="json", exclude_none=True),
        "decode": decode,
        "labels": digest.hexdigest(),
        "paths": {
            field: b"\0".join(files.path_of(sample_id) for sample_id in range(len(files)))
            for field, files in contents.files.items()
        },
    }


def _begin(part: Part, plan: Plan, contents: Contents, *, force: bool) -> int:
    """Go on with what is there, or begin anew. Return how many files are there."""
    if part.plan is not None:
        try:
            refuse_changes(part.path, part.plan, plan, part.written, contents)
            return part.saved
        except DatasetError:
            if not force:
                raise
    part.begin(plan)
    return 0


def _write_records(part: Part, contents: Contents, *, decode: bool, told: Told) -> None:
    """Write what is not there yet."""
    total = len(contents) * len(contents.files)
    done = part.saved
    told(done, total)
    threads = ThreadPoolExecutor(usable_cores() + 1, thread_name_prefix="pack")
    try:
        for name, files in contents.files.items():
            start = part.open_field(name)
            for records in _made(files, start, threads, decode=decode):
                part.write(records)
                done += len(records)
                told(done, total)
            part.checkpoint()
    finally:
        threads.shutdown(cancel_futures=True)


def _made(files: FieldFiles, start: int, threads: ThreadPoolExecutor, *, decode: bool) -> Iterator[list[Record]]:
    """Yield the records of a field's files, from sample `start` on, in their order; so many are made ahead."""

    def make(samples: range) -> list[Record]:
        return [make_record(files, sample_id, decode=decode) for sample_id in samples]

    ahead: deque[tuple[Future[list[Record]], int]] = deque()
    nbytes_ahead = 0
    for samples, nbytes in _chunks(files.sizes, start):
        while ahead and nbytes_ahead + nbytes > AHEAD_BYTES:
            future, nbytes_less = ahead.popleft()
            nbytes_ahead -= nbytes_less
            yield future.result()
        ahead.append((threads.submit(make, samples), nbytes))
        nbytes_ahead += nbytes
    for future, _ in ahead:
        yield future.result()


def _chunks(sizes: NDArray[np.int64], start: int) -> Iterator[tuple[range, int]]:
    """Yield samples that one thread reads in one go, and their bytes.

    >>> [list(samples) for samples, _ in _chunks(np.array([1, CHUNK_BYTES, 1, 1]), 0)]
    [[0], [1], [2, 3]]
    """
    nbytes, first = 0, start
    for number in range(start, len(sizes)):
        size = int(sizes[number])
        if number > first and (nbytes + size > CHUNK_BYTES or number - first == CHUNK_FILES):
            yield range(first, number), nbytes
            nbytes, first = 0, number
        nbytes += size
    if first < len(sizes):
        yield range(first, len(sizes)), nbytes


def _read_back(part: Part, plan: Plan, told: Told) -> None:
    """Compare all that was written with its checksums: what an earlier try has left may be damaged since."""
    damage = find_damage(part.path, told)
    if damage:
        part.begin(plan)
        more = f", and {len(damage) - 1:,} more" if len(damage) > 1 else ""
        raise DatasetError(
            f"{part.path!r} is not what was written: {damage[0]}{more}. Is the disk sound? The same command begins anew"
        )


def _finish(part: Part, contents: Contents, class_names: list[str], names: list[str], plan: Plan) -> int:
    """Write index and head. Return the bytes of the whole."""
    fields = []
    arrays: dict[str, np.ndarray] = {}
    for number, (name, files) in enumerate(contents.files.items()):
        written = part.written[name]
        fields.append(PackField(name, "array" if plan["decode"] else files.decoding, tuple(written.forms)))
        table = written.table
        arrays |= as_sub_index(f"records.{number}", {name: table[name].astype(dtype) for name, dtype in RECORD.items()})
    for number, (name, column) in enumerate(contents.columns.items(), len(fields)):
        fields.append(PackField(name))
        arrays[f"column.{number}"] = column
    arrays |= as_sub_index("names", pack_strings(names))
    said = Description(len(contents), tuple(fields), tuple(class_names), plan["source"], plan["decode"])
    return part.finish(encode_index(said, arrays))
