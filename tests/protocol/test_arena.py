import errno
import gc
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.arena import (
    SlotArrays,
    SlotWriter,
    create_arena,
    create_memory,
    map_memory,
    memory_of,
    reserve_memory,
    slot_arrays,
)
from loader_service.protocol.errors import NotEnoughMemory, SpecMismatch
from loader_service.protocol.layout import ALIGNMENT, PAGE, Layout, splits_of
from loader_service.protocol.spec import FieldSpec
from tests.limits import largest_file

pytestmark = pytest.mark.usefixtures("nothing_held")
NAME = "loader-service test"


@contextmanager
def memory(nbytes):
    fd = create_memory(NAME, nbytes)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("nbytes", [0, 4096, 3 * 4096])
def test_nobody_can_shrink_or_grow_the_memory(nbytes):
    """A truncated arena would be a SIGBUS in every process that reads it."""
    with memory(2 * 4096) as fd, pytest.raises(PermissionError):
        os.ftruncate(fd, nbytes)


def test_the_memory_is_reserved_whole_when_it_is_made():
    with memory(2**20) as fd:
        assert os.fstat(fd).st_blocks * 512 >= 2**20


def test_the_memory_begins_as_zeros():
    with memory(10_000) as fd:
        assert not map_memory(fd, 10_000, writable=False).any()


def test_what_one_mapping_writes_another_reads():
    with memory(4096) as fd:
        writer, reader = map_memory(fd, 4096, writable=True), map_memory(fd, 4096, writable=False)

        writer[17] = 42

        assert reader[17] == 42


def test_a_read_only_mapping_cannot_be_made_writable():
    with memory(4096) as fd:
        reader = map_memory(fd, 4096, writable=False)

        with pytest.raises(ValueError, match="read-only"):
            reader[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            reader.flags.writeable = True


def test_the_kernel_itself_refuses_writes_to_a_read_only_mapping():
    """NumPy's flag is good manners; a C extension that ignores it must not get at another trainer's batch."""
    script = (
        "import ctypes\n"
        "from loader_service.protocol.arena import create_memory, map_memory\n"
        "reader = map_memory(create_memory('loader-service test', 4096), 4096, writable=False)\n"
        "ctypes.memset(reader.ctypes.data, 1, 1)\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True)

    assert ended.returncode == -11  # SIGSEGV


def test_a_mapping_outlives_the_descriptor():
    with memory(4096) as fd:
        writer = map_memory(fd, 4096, writable=True)

    writer[:] = 7

    assert (writer == 7).all()


def test_too_little_memory_is_a_sentence_that_says_what_to_lower():
    with (
        largest_file(2**20),
        pytest.raises(NotEnoughMemory, match=r"cannot reserve 2,097,152 bytes .* Lower `memory`, the batch size"),
    ):
        create_memory(NAME, 2 * 2**20)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_a_kernel_without_pages_is_too_little_memory_too(code, monkeypatch):
    """Patched, since a machine whose memory is really exhausted ends tests, not this one alone."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)

    with pytest.raises(NotEnoughMemory, match=os.strerror(code)):
        create_memory(NAME, 4096)


def test_a_failure_leaves_no_descriptor_behind():
    gc.collect()  # what tests before this one have left open would be closed meanwhile
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(OSError, match="Invalid argument"):
        create_memory(NAME, 0)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


SPEC = {"image": FieldSpec((5, 3), "uint8"), "label": FieldSpec((), "int64"), "none": FieldSpec((0,), "float32")}


def test_the_arrays_of_a_slot_are_views_at_their_places():
    layout = Layout.of(SPEC, batch_size=7)
    with memory(3 * layout.slot_nbytes) as fd:
        bytes_ = map_memory(fd, 3 * layout.slot_nbytes, writable=True)

        arrays = slot_arrays(bytes_, layout, 1)
        arrays["label"][6] = -1

        assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
            "image": ((7, 5, 3), "uint8"),
            "label": ((7,), "int64"),
            "none": ((7, 0), "float32"),
            "ids": ((7,), "int64"),
        }
        assert all(array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0 for array in arrays.values())
        start = layout.slot_nbytes + layout.arrays["label"].offset
        assert bytes_[start + 48 : start + 56].tobytes() == b"\xff" * 8


def test_writing_all_of_one_slot_touches_no_other():
    layout = Layout.of(SPEC, batch_size=7)
    with memory(3 * layout.slot_nbytes) as fd:
        bytes_ = map_memory(fd, 3 * layout.slot_nbytes, writable=True)

        for array in slot_arrays(bytes_, layout, 1).values():
            array[...] = 1

        assert not bytes_[: layout.slot_nbytes].any()
        assert not bytes_[2 * layout.slot_nbytes :].any()


def test_the_arrays_of_a_read_only_mapping_are_read_only():
    layout = Layout.of(SPEC, batch_size=7)
    with memory(layout.slot_nbytes) as fd:
        arrays = slot_arrays(map_memory(fd, layout.slot_nbytes, writable=False), layout, 0)

        assert not any(array.flags.writeable for array in arrays.values())


VARYING = {
    "x": FieldSpec((None, 3), "float32", most=(9,)),
    "words": FieldSpec((None,), "uint8", most=(4,), form="text"),
    "label": FieldSpec((), "int64"),
}


def test_what_is_written_in_shapes_of_its_own_is_read_in_them():
    layout = Layout.of(VARYING, batch_size=7)
    with memory(2 * layout.slot_nbytes) as fd:
        write = SlotWriter(map_memory(fd, 2 * layout.slot_nbytes, writable=True), layout, 1)
        for name, shape in {
            "x": (5, 2, 3),
            "words": (11,),
            splits_of("words"): (6,),
            "label": (5,),
            "ids": (5,),
        }.items():
            array = write(name, shape)
            array[...] = np.arange(array.size).reshape(shape)

        slot = map_memory(fd, 2 * layout.slot_nbytes, writable=False)[layout.slot_nbytes :]
        read = SlotArrays(layout).read(slot, 5)

        assert {name: array.shape for name, array in read.items()} == {
            "x": (5, 2, 3),
            "words": (11,),
            "words:row_splits": (6,),
            "label": (5,),
            "ids": (5,),
        }
        assert all((array.reshape(-1) == np.arange(array.size)).all() for array in read.values())


def test_what_there_is_no_room_for_is_refused():
    layout = Layout.of(VARYING, batch_size=7)
    with memory(layout.slot_nbytes) as fd:
        write = SlotWriter(map_memory(fd, layout.slot_nbytes, writable=True), layout, 0)

        with pytest.raises(SpecMismatch, match=r"'x' of this batch is \(7, 10, 3\), and there is room for \(7, 9, 3\)"):
            write("x", (7, 10, 3))


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 40)), min_size=1, max_size=8))
def test_an_array_larger_than_its_room_is_read_where_it_is_and_its_memory_is_given_back(shapes):
    layout = Layout.of({"x": FieldSpec((None,), "float64", most=(9,))}, batch_size=7, whole=True)
    fd = create_arena(layout, slots=2, most_slots=3)
    try:
        arena = map_memory(fd, 3 * layout.stride, writable=True)
        at_rest = os.fstat(fd).st_blocks
        write = SlotWriter(arena, layout, 1, lambda start, nbytes: reserve_memory(fd, nbytes, start))
        for shape in shapes:
            if 8 * shape[0] * shape[1] > layout.arrays["x"].most_nbytes:
                with pytest.raises(SpecMismatch, match="there is room for 65,536 bytes of it"):
                    write("x", shape)
                continue
            write("x", shape)[...] = np.arange(np.prod(shape)).reshape(shape)
            write("ids", (1,))[...] = 5

            read = SlotArrays(layout).read(arena[layout.stride : 2 * layout.stride], 7)

            assert read["x"].shape == shape
            assert read["x"].reshape(-1).tolist() == list(range(read["x"].size))
            assert read["ids"].tolist() == [5]
            beyond = os.fstat(fd).st_blocks - at_rest
            assert beyond * 512 == (-(-read["x"].nbytes // PAGE) * PAGE if read["x"].nbytes > 8 * 7 * 9 else 0)
        assert not arena[: layout.stride].any()
        assert not arena[2 * layout.stride :].any()
    finally:
        os.close(fd)


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3).T, np.empty((0, 4)), np.pi])
def test_an_array_is_copied_into_fresh_memory(array):
    array = np.asarray(array)

    with memory_of(array, NAME) as fd:
        copied = map_memory(fd, os.fstat(fd).st_size, writable=False)

        assert copied[: array.nbytes].tobytes() == array.tobytes()
