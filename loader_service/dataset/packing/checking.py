"""Is a pack what it was written as? Every byte of it is read, and what is damaged is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from loader_service.dataset.packing.format import OpenPack, gaps

Told = Callable[[int, int], None]  # is told of records that were read, and of all


@dataclass(frozen=True)
class Damage:
    """A record that is not what it was written as; without a sample, something between records."""

    sample: int | None
    file: str  # what its source called the sample
    field: str
    reason: str

    def __str__(self) -> str:
        """Return it in a line."""
        if self.sample is None:
            return self.reason
        return f"sample {self.sample} ({self.file}), {self.field}: {self.reason}"


def find_damage(path: str, told: Told = lambda done, total: None) -> list[Damage]:
    """Read a whole pack.

    Raises:
        DatasetError: If it is no pack, is cut off or appended to, or its head or index is damaged.
    """
    pack = OpenPack(path)
    pack.check_index()
    found: list[Damage] = []
    fields = [(number, field.name) for number, field in enumerate(pack.description.fields) if field.forms]
    total, done = len(fields) * pack.description.samples, 0
    spans: list[tuple[int, int]] = []
    with open(path, "rb", buffering=0) as file:  # not the mapping: there, a disk that fails kills the process
        for number, name in fields:
            records = pack.records(number)
            rows = zip(*(records[part].tolist() for part in ("offset", "nbytes", "checksum")), strict=True)
            for sample, (offset, nbytes, checksum) in enumerate(rows):
                reason = _wrong(file.fileno(), offset, nbytes, checksum)
                if reason:
                    found.append(Damage(sample, pack.name(sample), name, reason))
                spans.append((offset, offset + nbytes))
                done += 1
                if done % 64 == 0 or done == total:
                    told(done, total)
        for start, stop in gaps(spans, pack.index_offset):
            if any(os.pread(file.fileno(), stop - start, start)):
                found.append(Damage(None, "", "", f"between samples, bytes {start:,} to {stop:,} are not zero"))
    return found


def _wrong(fd: int, offset: int, nbytes: int, checksum: int) -> str:
    """Return what is wrong with a record; "" if nothing is."""
    try:
        content = os.pread(fd, nbytes, offset)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if xxh3_64_intdigest(content) == checksum else f"its {nbytes:,} bytes are damaged"
