"""Shared memory without a name: made, reserved, handed over as a descriptor, mapped.

A memfd has no name to leak and nothing to clean up after `kill -9`: the kernel frees it with its last holder.
What is used of it is reserved before anybody touches it, because a page that is missing later is a SIGBUS or the OOM
killer, in somebody else's process. It is sealed, so that nobody can shrink it under a reader.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from loader_service.protocol.errors import NotEnoughMemory
from loader_service.protocol.layout import Layout

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
SHORTAGES = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EMFILE, errno.ENFILE)  # of pages, and of descriptors


def create_memory(name: str, nbytes: int, *, room: int = 0) -> int:
    """Return the descriptor of `nbytes` of reserved, zeroed, sealed memory; `name` shows in /proc only.

    Args:
        room: Bytes up to which it can be mapped, and later reserved; they take no memory until then.
    Raises:
        NotEnoughMemory: If the kernel cannot reserve it.
    """
    with _shortage_explained(nbytes):
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        reserve_memory(fd, nbytes)
        if room > nbytes:
            with _shortage_explained(room):
                os.ftruncate(fd, room)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def reserve_memory(fd: int, nbytes: int) -> None:
    """See to it that the first `nbytes` of a memory are there.

    Raises:
        NotEnoughMemory: If the kernel cannot reserve them.
    """
    with _shortage_explained(nbytes):
        os.posix_fallocate(fd, 0, nbytes)


@contextmanager
def _shortage_explained(nbytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in SHORTAGES:
            raise NotEnoughMemory(
                f"the kernel cannot reserve {nbytes:,} bytes of shared memory: {error.strerror}. "
                "Lower `memory`, the batch size or `prefetch`, or raise the container's memory limit, `ulimit -f` "
                "or `ulimit -n`."
            ) from error
        raise


def map_memory(fd: int, nbytes: int, *, writable: bool) -> np.ndarray:
    """Return the memory behind `fd` as a uint8 array of shape (nbytes,); the array keeps the mapping alive."""
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return np.frombuffer(mmap.mmap(fd, nbytes, mmap.MAP_SHARED, protection), dtype=np.uint8)


def slot_arrays(memory: np.ndarray, layout: Layout, slot: int) -> dict[str, np.ndarray]:
    """Return each field of `slot`, ids included, as one array of shape (batch_size, *field shape)."""
    start = slot * layout.slot_nbytes
    return {
        name: np.ndarray((layout.batch_size, *field.shape), field.dtype, memory, start + offset)
        for name, (offset, field) in layout.fields.items()
    }


@contextmanager
def memory_of(array: np.ndarray, name: str) -> Iterator[int]:
    """Copy `array` into fresh shared memory; the descriptor is closed at the end of the block."""
    fd = create_memory(name, max(1, array.nbytes))
    try:
        if array.nbytes:
            map_memory(fd, array.nbytes, writable=True)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        yield fd
    finally:
        os.close(fd)
