"""Many `.npy` files in one call: the kernel reads what Python reads, and leaves to it whatever is otherwise."""

from __future__ import annotations

import io
import itertools

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
