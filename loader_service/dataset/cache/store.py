"""Samples in two files that many processes write and map at the same time, without a lock.

    index   one entry of 32 bytes for each sample: where its record begins + 1 (0: nowhere), its length, its checksum,
            and what its files were when it was made
    data    records, each appended by one write

A record is written first, then its entry: a process that is killed between the two, or amid the first, leaves bytes
that nothing points to. Two that make the same sample write it twice, and the same; one entry wins. An entry is believed
when the checksum of its record, which each process compares once, says so. So a torn, cut or damaged file costs the
time to make samples again, and never a wrong one.

What came first stays. When `most` bytes are taken, further samples are made anew each time.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from loader_service.dataset.cache.record import pack, unpack
from loader_service.protocol.errors import DatasetError

log = logging.getLogger(__name__)

ENTRY = struct.Struct("<QQQQ")
INDEX, DATA = "index", "data"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SampleStore:
    """The samples of one cache, as one process sees them."""

    def __init__(self, folder: Path, samples: int, most: int | None) -> None:
        """Open a cache that is there (see folder.py).

        Args:
            most: Bytes that its records may take; half of what the disk has left, beside what they take, where None.
        Raises:
            DatasetError: If its files cannot be opened, or mapped.
        """
        self.folder = folder
        self._samples = samples
        self._fills = True
        try:
            self._index_fd = self._open(INDEX, 0)
            self._data_fd = self._open(DATA, os.O_APPEND)
        except OSError as error:
            raise DatasetError(f"the cache {str(folder)!r} cannot be opened: {error.strerror}") from error
        if os.fstat(self._index_fd).st_size != samples * ENTRY.size:
            raise DatasetError(
                f"the cache {str(folder)!r} has an index of another length: delete it, with `loader-service cache "
                "clear`"
            )
        if most is None:
            disk = os.statvfs(folder)
            most = self.nbytes + disk.f_bavail * disk.f_frsize // 2
        self.most = most
        self._entries = self._map(self._index_fd)
        self._records = self._map(self._data_fd)
        self._starts = np.zeros(samples, np.int64)  # of records whose checksum was right, + 1
        self._lengths = np.zeros(samples, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that the records take."""
        return os.fstat(self._data_fd).st_size

    def get(self, sample_id: int, identity: int) -> dict[str, Any] | None:
        """Return a sample, as views of the file; None if it is not there, damaged, or made of other files.

        Args:
            identity: What its files are now.
        """
        found = self.find(sample_id)
        if found is None or found[2] != identity:
            return None
        self._starts[sample_id], self._lengths[sample_id], _ = found
        return self.recall(sample_id)

    def recall(self, sample_id: int) -> dict[str, Any] | None:
        """Return a sample that this process has compared before; None if it has not."""
        start = int(self._starts[sample_id])
        if not start:
            return None
        return unpack(self._records[start - 1 : start - 1 + int(self._lengths[sample_id])])

    def find(self, sample_id: int) -> tuple[int, int, int] | None:
        """Return where a sample's record begins + 1, its length, and its files' identity; None if it is not sound."""
        start, length, checksum, identity = ENTRY.unpack_from(self._entries.data, sample_id * ENTRY.size)
        if not start:
            return None
        stop = start - 1 + length
        if stop > len(self._records):
            self._records = self._map(self._data_fd)
        if stop > len(self._records) or checksum != _checksum(sample_id, self._records[start - 1 : stop].data):
            return None
        return start, length, identity

    def put(self, sample_id: int, sample: Mapping[str, Any], identity: int) -> None:
        """Keep a sample, if there is room; what goes wrong with that is logged, and ends no training."""
        if not self._fills:
            return
        parts = pack(sample)
        length = sum(map(len, parts))
        if self.nbytes + length > self.most:
            self._fills = False
            log.info("the cache %s is full: further samples are made anew each time", self.folder)
            return
        record = b"".join(parts)
        try:
            written = os.write(self._data_fd, record)
            if written < length:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            start = os.lseek(self._data_fd, 0, os.SEEK_CUR) - length  # appending moves to the end of what was written
            entry = ENTRY.pack(start + 1, length, _checksum(sample_id, record), identity)
            os.pwrite(self._index_fd, entry, sample_id * ENTRY.size)
        except OSError as error:
            self._fills = False
            log.warning("the cache %s is not filled further: %s", self.folder, error.strerror)

    def forget(self, sample_id: int) -> None:
        """Let go of a sample that is not sound."""
        os.pwrite(self._index_fd, bytes(ENTRY.size), sample_id * ENTRY.size)

    def is_there(self, sample_id: int) -> bool:
        """Whether there is an entry, sound or not."""
        return bool(self._entries[sample_id * ENTRY.size : sample_id * ENTRY.size + 8].any())

    def close(self) -> None:
        """Let go of the files; samples that were handed out stay."""
        os.close(self._index_fd)
        os.close(self._data_fd)

    def _open(self, name: str, flags: int) -> int:
        try:
            return os.open(self.folder / name, os.O_RDWR | os.O_CLOEXEC | flags)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            self._fills = False  # what is there can be read
            return os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def _map(self, fd: int) -> np.ndarray:
        nbytes = os.fstat(fd).st_size
        if not nbytes:
            return np.empty(0, np.uint8)
        try:
            return np.frombuffer(mmap.mmap(fd, nbytes, mmap.MAP_SHARED, mmap.PROT_READ), np.uint8)
        except OSError as error:
            raise DatasetError(
                f"the cache {str(self.folder)!r} cannot be mapped ({error.strerror}): name a folder of another file "
                "system, with .cache(path=...)"
            ) from error


def _checksum(sample_id: int, record: bytes | memoryview) -> int:
    """Return the checksum of a record that stands for this sample, and no other one."""
    return xxhash.xxh3_64_intdigest(record, seed=sample_id)
