"""Shared memory without a name: made, reserved, handed over as a descriptor, mapped.

A memfd has no name to leak and nothing to clean up after `kill -9`: the kernel frees it with its last holder.
What is used of it is reserved before anybody touches it, because a page that is missing later is a SIGBUS or the OOM
killer, in somebody else's process. It is sealed, so that nobody can shrink it under a reader.
"""

from __future__ import annotations

import errno
import fcntl
import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from loader_service.protocol.errors import NotEnoughMemory, SpecMismatch
from loader_service.protocol.layout import PAGE, Layout, Place, round_up

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


def reserve_memory(fd: int, nbytes: int, start: int = 0) -> None:
    """See to it that `nbytes` of a memory are there.

    Raises:
        NotEnoughMemory: If the kernel cannot reserve them.
    """
    with _shortage_explained(nbytes):
        os.posix_fallocate(fd, start, nbytes)


def create_arena(layout: Layout, slots: int, most_slots: int) -> int:
    """Return the descriptor of an arena with so many slots, and addresses for more.

    Raises:
        NotEnoughMemory: If the kernel cannot reserve the slots.
    """
    fd = create_memory("loader-service arena", layout.slot_nbytes, room=most_slots * layout.stride)
    try:
        reserve_slots(fd, layout, range(slots))
    except BaseException:
        os.close(fd)
        raise
    return fd


def reserve_slots(fd: int, layout: Layout, slots: range) -> None:
    """See to it that there is memory for slots; for what may lie beyond each of them, there is none yet.

    Raises:
        NotEnoughMemory: If the kernel cannot reserve it.
    """
    with _shortage_explained(len(slots) * layout.slot_nbytes):
        for slot in slots:
            os.posix_fallocate(fd, slot * layout.stride, layout.slot_nbytes)


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


def map_privately(fd: int, nbytes: int) -> np.ndarray:
    """Return the memory behind `fd` as an array that can be written to: a page that is written is copied first."""
    return np.frombuffer(mmap.mmap(fd, nbytes, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE), dtype=np.uint8)


def address_of(array: np.ndarray) -> int:
    """Return where an array begins in memory."""
    found: int = array.__array_interface__["data"][0]
    return found


def slot_arrays(memory: np.ndarray, layout: Layout, slot: int) -> dict[str, np.ndarray]:
    """Return what the rows of `slot` are written to: arrays of shape (batch_size, *field shape), ids included."""
    start = slot * layout.stride
    return {
        name: np.ndarray(place.shape, place.dtype, memory, start + place.offset) for name, place in layout.rows.items()
    }


def arrays_of_all_slots(memory: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """Return what readers see of all slots at once: arrays of shape (slots, batch_size, *field shape), ids included.

    For a layout whose batches all have the same shapes.
    """
    slots = len(memory) // layout.stride
    arrays = {}
    for name, place in layout.arrays.items():
        assert not place.varies, f"{name} differs from batch to batch"
        one = np.ndarray(place.shape, place.dtype, memory, place.offset)
        arrays[name] = as_strided(one, (slots, *one.shape), (layout.stride, *one.strides), writeable=False)
    return arrays


class SlotWriter:
    """Hands out room for the arrays of a batch whose shapes are known only now, and notes these."""

    def __init__(
        self, memory: np.ndarray, layout: Layout, slot: int, reserve: Callable[[int, int], None] | None = None
    ) -> None:
        """Write into a slot.

        Args:
            reserve: Sees to it that some bytes are there, given where they start in `memory`, and how many they are.
        """
        start = slot * layout.stride
        self._memory, self._reserve = memory, reserve
        self._shapes = np.ndarray(layout.shapes.shape, np.int64, memory, start + layout.shapes.offset)
        self._rooms: dict[str, _Room] = {}
        end = 0
        for name, place in layout.arrays.items():
            noted = slice(end, end + len(place.shape)) if place.varies else None
            end += len(place.shape) if place.varies else 0
            self._rooms[name] = _Room(
                place, np.dtype(place.dtype), place.nbytes, start + place.offset, start + place.beyond, noted
            )

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        """Return the array of a batch, to be written; its content is uninitialised.

        Raises:
            SpecMismatch: If there is no room for it.
            NotEnoughMemory: If there is no memory for one that is larger than usual.
        """
        room = self._rooms[name]
        nbytes = math.prod(shape) * room.dtype.itemsize
        is_beyond = nbytes > room.nbytes
        if is_beyond and nbytes > room.place.most_nbytes:
            there = f"{room.place.most_nbytes:,} bytes of it" if room.place.beyond else str(room.place.shape)
            raise SpecMismatch(f"field {name!r} of this batch is {shape}, and there is room for {there}")
        if room.noted is not None:
            before = self._shapes[room.noted].tolist()
            self._shapes[room.noted] = shape  # first of all: whoever writes here next finds out of it what to give back
            if room.place.beyond:
                self._settle_beyond(room, math.prod(before) * room.dtype.itemsize, nbytes if is_beyond else 0)
        return np.ndarray(shape, room.dtype, self._memory, room.beyond if is_beyond else room.start)

    def _settle_beyond(self, room: _Room, before: int, nbytes: int) -> None:
        """Have memory for an array that goes beyond its slot, and no more than that."""
        if nbytes and self._reserve is not None:
            self._reserve(room.beyond, nbytes)
        if room.nbytes < before <= room.place.most_nbytes:
            kept = round_up(nbytes, PAGE)
            give_back_pages(self._memory, room.beyond + kept, round_up(before, PAGE) - kept)


class _Room(NamedTuple):
    """What a writer knows of the place of one array."""

    place: Place
    dtype: np.dtype[Any]
    nbytes: int  # that there is room for
    start: int  # byte of the mapping
    beyond: int  # byte of the mapping, where it is if it is larger
    noted: slice | None  # where its shape stands


def give_back_pages(memory: np.ndarray, start: int, nbytes: int) -> None:
    """Let go of the memory behind some pages of a mapping: they read as zeros from then on."""
    mapping = memory.base.obj if isinstance(memory.base, memoryview) else None  # as `map_memory` makes them
    if nbytes > 0 and isinstance(mapping, mmap.mmap):
        with suppress(OSError):  # a kernel that cannot: the memory goes when the arena goes
            mapping.madvise(mmap.MADV_REMOVE, start, nbytes)


class SlotArrays:
    """Reads batches out of slots: what `SlotWriter` and those who fill rows have written."""

    def __init__(self, layout: Layout) -> None:
        self._fixed = [
            (name, place.offset, np.dtype(place.dtype), place.shape[1:])
            for name, place in layout.arrays.items()
            if not place.varies
        ]
        self._varying = [
            (name, place, np.dtype(place.dtype), len(place.shape), place.nbytes)
            for name, place in layout.arrays.items()
            if place.varies
        ]
        self._shapes = layout.shapes
        self._names = list(layout.arrays)

    def read(self, memory: np.ndarray, rows: int) -> dict[str, np.ndarray]:
        """Return the arrays of the slot that is `memory`; `rows` is how many rows those have whose shape is fixed."""
        arrays = {name: np.ndarray((rows, *shape), dtype, memory, offset) for name, offset, dtype, shape in self._fixed}
        if not self._varying:
            return arrays
        shapes = np.ndarray(self._shapes.shape, np.int64, memory, self._shapes.offset).tolist()
        at = 0
        for name, place, dtype, ndim, room in self._varying:
            shape, at = shapes[at : at + ndim], at + ndim
            nbytes = math.prod(shape) * dtype.itemsize
            assert min(shape, default=0) >= 0 and nbytes <= place.most_nbytes, f"{name}: {shape}"
            arrays[name] = np.ndarray(shape, dtype, memory, place.offset if nbytes <= room else place.beyond)
        return {name: arrays[name] for name in self._names}


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
