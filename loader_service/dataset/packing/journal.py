"""What an unfinished pack holds so far: `FILE.part.journal`, beside the `FILE.part` that is written.

    frame    bytes of the content (u64), xxh3_64 of it (u64), content (msgpack)

The first frame says what is packed. Each of the others tells of records that have reached the disk before it was
written, and of the forms that came with them. One that is cut off or damaged, and all behind it, was never written.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack
import numpy as np
from xxhash import xxh3_64_intdigest

from loader_service.dataset.packing.format import ESCAPE, RECORD, Form
from loader_service.protocol.errors import DatasetError

Plan = Mapping[str, Any]  # what is packed: see writer.py
FRAME = struct.Struct("<QQ")
WRITTEN = np.dtype([*RECORD.items(), ("size", "<i8"), ("mtime_ns", "<i8")])  # a record, and its file as it was


@dataclass
class Written:
    """The records of one field that are written."""

    records: list[np.ndarray] = field(default_factory=list)  # of dtype WRITTEN
    forms: dict[Form, int] = field(default_factory=dict)  # in the order in which they came

    def __len__(self) -> int:
        return sum(map(len, self.records))

    @property
    def end(self) -> int:
        """Where the last of them ends in the file; 0 where there is none."""
        return int(self.records[-1]["offset"][-1] + self.records[-1]["nbytes"][-1]) if self.records else 0

    @property
    def table(self) -> np.ndarray:
        """All of them."""
        return np.concatenate([np.empty(0, WRITTEN), *self.records])


class Journal:
    """The journal of one pack, locked for this process until it is closed."""

    def __init__(self, path: str) -> None:
        """Open it, or make an empty one.

        Raises:
            DatasetError: If another process has it.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = os.fstat(self._fd).st_nlink == 0  # its owner was done in between, and has removed it
        except BlockingIOError:
            taken = True
        if taken:
            os.close(self._fd)
            raise DatasetError(
                f"another process is packing into {path.removesuffix('.part.journal')!r}: wait until it is done"
            )

    def read(self) -> tuple[Plan | None, dict[str, Written]]:
        """Return what is packed, None where nothing is; and what is written of each field. Forget what is no frame."""
        content = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        plan: Plan | None = None
        written: dict[str, Written] = {}
        at = 0
        while at + FRAME.size <= len(content):
            nbytes, checksum = FRAME.unpack_from(content, at)
            said = content[at + FRAME.size : at + FRAME.size + nbytes]
            if len(said) < nbytes or xxh3_64_intdigest(said) != checksum:
                break
            at += FRAME.size + nbytes
            frame = msgpack.unpackb(said, unicode_errors=ESCAPE)
            if plan is None:
                plan = frame
                continue
            of_field = written.setdefault(frame["field"], Written())
            of_field.records.append(np.frombuffer(frame["records"], WRITTEN))
            for form in frame["forms"]:
                of_field.forms[Form(form["dtype"], tuple(form["shape"]), form["header"])] = len(of_field.forms)
        os.ftruncate(self._fd, at)
        os.lseek(self._fd, at, os.SEEK_SET)
        return plan, written

    def begin(self, plan: Plan) -> None:
        """Say what is packed, in place of all that was said before."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._append(plan)

    def append(self, name: str, records: np.ndarray, forms: list[Form]) -> None:
        """Tell of records of a field, and of its new forms; they are on the disk."""
        self._append({"field": name, "records": records.tobytes(), "forms": [asdict(form) for form in forms]})

    def _append(self, frame: Mapping[str, Any]) -> None:
        said = msgpack.packb(frame, unicode_errors=ESCAPE)
        left = memoryview(FRAME.pack(len(said), xxh3_64_intdigest(said)) + said)
        while left:
            left = left[os.write(self._fd, left) :]
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let others have it."""
        os.close(self._fd)
