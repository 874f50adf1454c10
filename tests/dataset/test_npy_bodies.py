"""Many `.npy` files in one call: the kernel reads what Python reads, and leaves to it whatever is otherwise."""

from __future__ import annotations

import io
import itertools
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format

from loader_service.dataset.sources import npy_bodies
from loader_service.dataset.sources.npy_bodies import NpyBodies
from loader_service.dataset.sources.npy_files import NpyFilesReader
from loader_service.dataset.sources.paths import Paths
from loader_service.dataset.sources.source import as_sub_index
from loader_service.protocol.arena import address_of
from loader_service.protocol.errors import LoaderError
from loader_service.protocol.tables import PackedStrings, pack_strings

pytestmark = pytest.mark.skipif(npy_bodies.kernel() is None, reason="the kernel is not built here")
SHAPE = (2, 3)
KINDS = (
    "alike",
    "alike",
    "alike",
    "another version",
    "fortran",
    "big-endian",
    "short",
    "other shape",
    "missing",
    "folder",
)
numbers = itertools.count()


def write(path, kind, number):
    array = np.arange(6, dtype=">i4" if kind == "big-endian" else "<i4").reshape(SHAPE) + number
    if kind == "missing":
        return
    if kind == "folder":
        path.mkdir()
        return
    if kind == "fortran":
        array = np.asfortranarray(array)
    if kind == "other shape":
        array = array.reshape(3, 2)
    file = io.BytesIO()
    npy_format.write_array(file, array, version=(2, 0) if kind == "another version" else (1, 0))
    content = file.getvalue()
    path.write_bytes(content[:-3] if kind == "short" else content)


def made_of(reader, ids):
    out = np.full((len(ids), *SHAPE), -1, "<i4")
    try:
        reader.read_column("x", ids, out)
    except LoaderError as error:
        return str(error)
    return out.tolist()


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=9), st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_lies_in_a_folder_is_read_or_refused_as_without_the_kernel(tmp_path, kinds, data):
    folder = tmp_path / str(next(numbers))
    folder.mkdir()
    for number, kind in enumerate(["alike", *kinds]):
        write(folder / f"{number}.npy", kind, number)
    names = PackedStrings(pack_strings([str(number) for number in range(len(kinds) + 1)]))
    reader = NpyFilesReader(str(folder), as_sub_index("ids", {"bytes": names.bytes, "offsets": names.offsets}))
    reader.model(0)
    ids = np.array(data.draw(st.lists(st.integers(0, len(kinds)), max_size=12)), np.int64)

    with pytest.MonkeyPatch.context() as patch:
        with_kernel = made_of(reader, ids)
        patch.setattr(npy_bodies, "kernel", lambda: None)
        assert made_of(reader, ids) == with_kernel


@pytest.mark.parametrize("offsets", [[0, 2**62], [0, -1], [-5, 1], [2**62, 2**62 + 1], [3, 1], [0, 5000]])
def test_names_that_claim_to_lie_elsewhere_are_left_to_python(tmp_path, offsets):
    write(tmp_path / "0.npy", "alike", 0)
    told = PackedStrings(pack_strings(["0"]))
    bodies = NpyBodies(Paths(str(tmp_path), told, b".npy"))
    bodies.model(0)
    told.offsets[...] = offsets

    assert list(bodies.read_alike(np.array([0]), np.empty((1, *SHAPE), "<i4"))) == [0]


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 5000, "/" * 4090 + "0"])
def test_names_that_no_file_has_are_left_to_python(tmp_path, name):
    write(tmp_path / "0.npy", "alike", 0)
    bodies = NpyBodies(Paths(str(tmp_path), PackedStrings(pack_strings(["0", name, "0"])), b".npy"))
    bodies.model(0)
    out = np.full((3, *SHAPE), -1, "<i4")

    assert list(bodies.read_alike(np.array([0, 1, 2]), out)) == [1]
    assert (out[[0, 2]] == np.arange(6).reshape(SHAPE)).all()


def test_a_whole_path_is_one_where_names_may_be_paths(tmp_path):
    write(tmp_path / "0.npy", "alike", 0)
    packed, out = PackedStrings(pack_strings([str(tmp_path / "0")])), np.empty((1, *SHAPE), "<i4")
    for any_root, left in ((True, []), (False, [0])):
        bodies = NpyBodies(Paths("/", PackedStrings(pack_strings([f"{tmp_path}/0"[1:]])), b".npy"))
        bodies.model(0)
        bodies.path_of = Paths("/nowhere", packed, b".npy", any_root=any_root)
        assert list(bodies.read_alike(np.array([0]), out)) == left


@pytest.fixture
def keeping():
    """Files are kept, as in a worker: two of them at most."""
    npy_bodies.kernel().keep_files(2, 1000)
    yield
    npy_bodies.kernel().keep_files(0, 0)


def mapped(folder):
    """Names of the files of a folder that this process has mapped; of some it may be said that they are deleted."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted(Path(line.split(maxsplit=5)[5]).name for line in lines if str(folder) in line)


CHANGES = ("replaced", "written anew in place", "cut short", "grown", "emptied", "removed", "another shape", "nothing")


def change(path, how, number):
    """Have others do something to a file."""
    other = path.with_suffix(".new")
    match how:
        case "replaced" | "another shape":
            write(other, "other shape" if how == "another shape" else "alike", number)
            other.rename(path)
        case "written anew in place":
            write(other, "alike", number)
            with path.open("r+b") as file:
                file.write(other.read_bytes())
        case "cut short" | "emptied":
            os.truncate(path, max(0, path.stat().st_size - 3) if how == "cut short" else 0)
        case "grown":
            with path.open("ab") as file:
                file.write(b"more")
        case "removed":
            path.unlink()


@given(st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 3)), max_size=5), st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_that_are_kept_are_read_or_refused_as_those_that_are_not(tmp_path, keeping, changes, data):
    folder = tmp_path / str(next(numbers))
    folder.mkdir()
    for number in range(4):
        write(folder / f"{number}.npy", "alike", number)
    reader = NpyFilesReader(str(folder), as_sub_index("ids", pack_strings(["0", "1", "2", "3"])))
    reader.model(0)
    order = st.permutations(range(4)).map(np.array)
    made_of(reader, data.draw(order))
    for number, (how, which) in enumerate(changes):
        if (folder / f"{which}.npy").exists():
            change(folder / f"{which}.npy", how, 100 + number)
        ids = data.draw(order)
        with_kept = made_of(reader, ids)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(npy_bodies, "kernel", lambda: None)
            assert made_of(reader, ids) == with_kept
    assert len(mapped(folder)) <= 2


def test_no_more_files_are_kept_than_may_be_and_none_that_nobody_reads_any_more(tmp_path, keeping):
    for number in range(4):
        write(tmp_path / f"{number}.npy", "alike", number)
    reader = NpyFilesReader(str(tmp_path), as_sub_index("ids", pack_strings(["0", "1", "2", "3"])))
    reader.model(0)
    expected = made_of(reader, np.arange(4))

    assert mapped(tmp_path) == ["0.npy", "1.npy"]
    assert made_of(reader, np.arange(4)) == expected

    (tmp_path / "0.npy").unlink()
    made_of(reader, np.array([3, 0]))
    assert mapped(tmp_path) == ["1.npy"]  # a place is free again, but not before the next file is opened
    assert made_of(reader, np.array([2])) == expected[2:3]
    assert mapped(tmp_path) == ["1.npy", "2.npy"]

    del reader
    assert mapped(tmp_path) == []


def test_no_more_bytes_are_kept_than_may_be(tmp_path, keeping):
    write(tmp_path / "0.npy", "alike", 0)
    write(tmp_path / "1.npy", "alike", 1)
    npy_bodies.kernel().keep_files(9, 2 * (tmp_path / "0.npy").stat().st_size - 1)
    reader = NpyFilesReader(str(tmp_path), as_sub_index("ids", pack_strings(["0", "1"])))
    reader.model(0)
    made_of(reader, np.array([1, 0]))

    assert mapped(tmp_path) == ["1.npy"]


def test_a_process_that_was_not_told_to_keeps_no_files(tmp_path):
    write(tmp_path / "0.npy", "alike", 0)
    reader = NpyFilesReader(str(tmp_path), as_sub_index("ids", pack_strings(["0"])))
    reader.model(0)
    made_of(reader, np.array([0, 0]))

    assert mapped(tmp_path) == []


@pytest.mark.parametrize(("count", "kept"), [(7, ["0.npy", "1.npy"]), (8, [])])
def test_none_are_kept_of_so_many_that_it_would_be_less_than_a_quarter(tmp_path, keeping, count, kept):
    names = [str(number) for number in range(count)]
    for number in range(count):
        write(tmp_path / f"{number}.npy", "alike", number)
    reader = NpyFilesReader(str(tmp_path), as_sub_index("ids", pack_strings(names)))
    reader.model(0)
    made_of(reader, np.arange(count))

    assert mapped(tmp_path) == kept


@pytest.mark.parametrize("shift", [0, 16, 4])
def test_large_rows_that_are_kept_arrive_whole_wherever_they_are_written(tmp_path, keeping, shift):
    array = np.random.default_rng(7).integers(0, 2**31, 2**17 + 5, np.int32)
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", array + number)
    npy_bodies.kernel().keep_files(2, 2**22)
    reader = NpyFilesReader(str(tmp_path), as_sub_index("ids", pack_strings(["0", "1"])))
    reader.model(0)
    room = np.zeros(2 * array.nbytes + 64, np.uint8)
    begin = -address_of(room) % 64 + shift
    for _ in range(2):
        out = room[begin : begin + 2 * array.nbytes].view(np.int32).reshape(2, -1)
        reader.read_column("x", np.array([1, 0]), out)
        assert np.array_equal(out, [array + 1, array])
        assert mapped(tmp_path) == ["0.npy", "1.npy"]
        out[...] = 0
    assert not room[:begin].any()
    assert not room[begin + 2 * array.nbytes :].any()


@pytest.mark.parametrize("limit", [10_000, 2**62, resource.RLIM_INFINITY])
def test_half_of_what_a_process_may_map_is_kept_and_half_of_its_memory(monkeypatch, limit):
    asked = []
    monkeypatch.setattr(npy_bodies, "kernel", lambda: SimpleNamespace(keep_files=lambda *told: asked.append(told)))
    monkeypatch.setattr(npy_bodies, "all_memory", lambda: 2**30)
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_AS: (limit, limit)}[which])
    npy_bodies.keep_files()

    most_mappings = int(Path("/proc/sys/vm/max_map_count").read_text())
    assert asked == [(most_mappings // 2, 5_000 if limit == 10_000 else 2**29)]
