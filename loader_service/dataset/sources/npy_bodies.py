"""Arrays in `.npy` files, one a file, all alike: their numbers are read straight into rows.

The header is parsed once. Where a file begins with the same header bytes, reading it is open, one `preadv` of header
and body, close: npy_bodies.c does so for a whole task, where it was built. Where it does not, NumPy reads the file.
"""

from __future__ import annotations

import ast
import ctypes
import os
import resource
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.collate import native
from loader_service.dataset.kernels import ADDRESS, INT, MUCH, SIZE, library_of
from loader_service.dataset.sources.paths import Paths
from loader_service.machine import all_memory
from loader_service.protocol.arena import address_of
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.ledger import error_about
from loader_service.protocol.spec import FieldSpec

Describe = Callable[[int], str]
MAGIC = b"\x93NUMPY"
MAX_HEADER = 4096  # bytes; NumPy writes 128 for all but wild structured dtypes
MOST_MAPPINGS = Path("/proc/sys/vm/max_map_count")  # that a process may have
_parsing = threading.RLock()  # CPython counts how deep it is in a literal for all threads together (its issue 106905)


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
            text = start[begin : begin + length].decode("utf-8" if start[6] >= 3 else "latin1")
            with _parsing:
                fields = ast.literal_eval(text)
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

    def __init__(self, path_of: Paths) -> None:
        self.path_of = path_of
        self._kept: int | None = None  # what kernel() keeps of them
        if (compiled := kernel()) is not None and (kept := compiled.room_for_files(len(path_of))):
            self._kept = kept
            weakref.finalize(self, compiled.let_files_go, kept)

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

    def read_column(
        self, ids: NDArray[np.int64], out: np.ndarray, read: Callable[[int, np.ndarray], Any], describe: Describe
    ) -> None:
        """Read the numbers of many files into `out`, one row each.

        Args:
            read: Reads one that is not like the model: `read_into`, or what calls it.
            describe: Names a sample.
        Raises:
            SampleError: If one cannot be read; SpecMismatch, if it holds something else.
        """
        for row in self.read_alike(ids, out):
            sample_id = int(ids[row])
            try:
                read(sample_id, out[row : row + 1])
            except (OSError, DatasetError) as error:
                kind = SpecMismatch if isinstance(error, SpecMismatch) else SampleError
                raise error_about(sample_id, describe(sample_id), str(error), kind) from error

    def read_alike(self, ids: NDArray[np.int64], out: np.ndarray) -> Iterator[int]:
        """Read the numbers of many files into `out`, one row each; yield the rows that this leaves to `read_into`.

        These are all, where nothing was built; else those whose files are not like the model, or cannot be read.
        """
        compiled, row, rows, paths = kernel(), 0, len(ids), self.path_of
        if compiled is None or not self._header.direct or not out.flags.c_contiguous:
            yield from range(rows)
            return
        ids = np.ascontiguousarray(ids)
        names, raw, nbytes = paths.packed, self._header.raw, self._header.spec.nbytes
        told = address_of(names.bytes), len(names.bytes), address_of(names.offsets), paths.suffix, paths.any_root
        how = nbytes, self._kept, out.nbytes >= MUCH
        while True:
            rest = address_of(ids) + row * ids.itemsize, rows - row
            row += compiled.read_bodies(paths.root, *told, *rest, raw, len(raw), address_of(out) + row * nbytes, *how)
            if row == rows:
                return
            yield row
            row += 1

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
        if count < len(self._found) or self._found != self._header.raw:  # it may hold what was read before
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


class Kernel:
    """The functions of npy_bodies.c."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Take them out of the library."""
        paths, array = (ADDRESS, ADDRESS, SIZE, ADDRESS, ADDRESS, INT), (ADDRESS, SIZE)  # ids, header, rows are arrays
        self.read_bodies, self.keep_files = library.read_bodies, library.keep_files
        self.room_for_files, self.let_files_go = library.room_for_files, library.let_files_go
        self.read_bodies.argtypes = [*paths, *array, *array, *array, ADDRESS, INT]
        self.read_bodies.restype = SIZE
        self.keep_files.argtypes, self.keep_files.restype = [SIZE, SIZE], None
        self.room_for_files.argtypes, self.room_for_files.restype = [SIZE], ADDRESS
        self.let_files_go.argtypes, self.let_files_go.restype = [ADDRESS], None


@cache
def kernel() -> Kernel | None:
    """Return what reads many files at once; None, if it was not built."""
    library = library_of(__file__, "npy_bodies")
    return None if library is None else Kernel(library)


def keep_files() -> None:
    """Have this process, and its forks, keep files mapped that they read: half as many as each may, or half of memory.

    One thread of each reads. It may die of a file that others make shorter meanwhile. No trainer may, but a worker: its
    rows are made again.
    """
    if (compiled := kernel()) is not None and MOST_MAPPINGS.exists():
        addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
        room = all_memory() if addresses == resource.RLIM_INFINITY else min(all_memory(), addresses)
        compiled.keep_files(int(MOST_MAPPINGS.read_text()) // 2, room // 2)
