"""A pack that is being written.

    FILE.part            records, in the order of format.py; index and head are written last
    FILE.part.journal    which of them have reached the disk (journal.py)

What stands behind the last record of the journal was not saved: it is cut off, and written again.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from loader_service.dataset.packing.format import ALIGNMENT, FILE, PAGE, Form, align, encode_head
from loader_service.dataset.packing.journal import WRITTEN, Journal, Plan, Written
from loader_service.dataset.packing.records import Record

CHECKPOINT_BYTES = 64 * 2**20  # what is lost at most when it is killed: so many bytes,
CHECKPOINT_SECONDS = 1.0  # and what is written in so long


class Part:
    """The file, and its journal; nobody else can write to them until the `with` block ends."""

    def __init__(self, path: str) -> None:
        """Open what is there, or a new file.

        Raises:
            DatasetError: If another process is at it.
        """
        self.path = path
        self.plan: Plan | None  # what was begun here, if anything was
        self.written: dict[str, Written]  # by field
        with ExitStack() as opened:
            self._journal = Journal(f"{path}.journal")
            opened.callback(self._journal.close)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            opened.callback(os.close, self._fd)
            self.plan, self.written = self._journal.read()
            self._end = max((written.end for written in self.written.values()), default=PAGE)
            if os.fstat(self._fd).st_size < self._end:  # somebody has cut it off
                self.plan = None
            self._opened = opened.pop_all()
        self._unsaved: list[tuple[int, ...]] = []  # records of the field that is open
        self._new_forms: list[Form] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def saved(self) -> int:
        """Records that will be there whatever happens."""
        return sum(map(len, self.written.values()))

    def begin(self, plan: Plan) -> None:
        """Forget what is there."""
        self._journal.begin(plan)
        self.written, self._end = {}, PAGE

    def open_field(self, name: str) -> int:
        """Begin with a field, or go on with it. Return how many of its records are there."""
        written = self._open = self.written.setdefault(name, Written())
        self._field = name
        os.ftruncate(self._fd, self._end)
        self._at = self._end if len(written) else align(self._end, PAGE)
        self._layout = list(written.forms)[written.records[-1]["form"][-1]].layout if len(written) else FILE.layout
        self._since = time.monotonic()
        return len(written)

    def write(self, records: list[Record]) -> None:
        """Write the next records of the field that is open."""
        start = self._at
        pieces: list[bytes | memoryview] = []
        for record in records:
            form = record.form
            follows = form.layout == self._layout != FILE.layout
            offset = self._at if follows else align(self._at, ALIGNMENT)
            if form not in self._open.forms:
                self._open.forms[form] = len(self._open.forms)
                self._new_forms.append(form)
            row = (offset, len(record.body), record.checksum, self._open.forms[form], record.size, record.mtime_ns)
            self._unsaved.append(row)
            pieces += [bytes(offset - self._at), record.body]
            self._at, self._layout = offset + len(record.body), form.layout
        self._write_all(b"".join(pieces), start)
        if self._at - self._end >= CHECKPOINT_BYTES or time.monotonic() - self._since >= CHECKPOINT_SECONDS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save what was written."""
        if self._unsaved:
            os.fdatasync(self._fd)
            records = np.array(self._unsaved, WRITTEN)
            self._journal.append(self._field, records, self._new_forms)
            self._open.records.append(records)
            self._unsaved, self._new_forms, self._end = [], [], self._at
        self._since = time.monotonic()

    def finish(self, index: bytes) -> int:
        """Write index and head, when all records are there. Return the bytes of the whole."""
        os.ftruncate(self._fd, self._end)
        start = align(self._end, PAGE)
        self._write_all(index, start)
        os.fsync(self._fd)  # before the head says that all is there
        self._write_all(encode_head(start, index), 0)
        os.fsync(self._fd)
        return start + len(index)

    def become(self, output: str) -> None:
        """Give the file its name, which lasts: and with it the journal is done."""
        Path(self.path).replace(output)
        folder = os.open(Path(output).absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        Path(f"{self.path}.journal").unlink()

    def _write_all(self, content: bytes, offset: int) -> None:
        left: Any = memoryview(content)
        while left:
            count = os.pwrite(self._fd, left, offset)
            left, offset = left[count:], offset + count
