"""Small batches go to TensorFlow several at a time, and come out as they went in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loader_client
from loader_client.batch import SlotReader, Stacks
from loader_client.bundles import is_small
from loader_service import Dataset
from loader_service.protocol.arena import slot_arrays
from loader_service.protocol.bundles import MOST
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.layout import IDS, Layout
from loader_service.protocol.spec import FieldSpec
from tests.client.test_passes import INFO

SPEC = {"x": FieldSpec((3, 5), "float32"), "flag": FieldSpec((), "bool"), "y": FieldSpec((2,), "int64")}
SLOTS, ROWS = 6, 4


@pytest.fixture(scope="module")
def slots():
    """A reader of slots that are full of numbers, and what each of them holds."""
    layout = Layout.of(SPEC, ROWS)
    arena = np.random.default_rng(7).integers(0, 2, SLOTS * layout.stride, np.uint8)
    return SlotReader(arena, layout, SPEC), [slot_arrays(arena, layout, slot) for slot in range(SLOTS)]


@given(chosen=st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=9), rows=st.integers(1, ROWS))
def test_the_fields_of_several_slots_are_stacked(slots, chosen, rows):
    reader, held = slots

    stacked = reader.stack(chosen, rows)

    assert list(stacked) == [*SPEC, IDS]
    for name, array in stacked.items():
        expected = np.stack([held[slot][name][:rows] for slot in chosen])
        assert array.dtype == expected.dtype
        assert array.tobytes() == expected.tobytes()
        assert array.ctypes.data % 64 == 0, "TensorFlow would copy it"


def test_memory_is_used_again_as_soon_as_no_array_lies_over_it_and_never_before(slots):
    reader, held = slots
    first = reader.stack([0, 1], ROWS)
    kept, before = first["x"][1], first["x"].ctypes.data
    del first

    second = reader.stack([2, 3], ROWS)
    assert second["x"].ctypes.data != before
    assert np.array_equal(kept, held[1]["x"])

    del kept
    assert reader.stack([4, 5], ROWS)["x"].ctypes.data == before


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=20))
def test_there_is_room_for_whatever_is_asked_for(asked):
    numbers = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    stacks = Stacks(numbers)
    for slots, rows in asked:
        found = stacks.take([*range(slots)], rows)
        assert np.array_equal(found, numbers[:slots, :rows])
        assert not found.flags.writeable


@pytest.mark.parametrize("workers", [0, 2])
def test_what_comes_out_is_what_went_in(workers):
    dataset = Dataset.from_arrays(x=np.arange(90).reshape(30, 3), y=np.arange(30)).shuffle(seed=7).batch(4)
    with loader_client.connect(workers=workers) as loader, loader.stream(dataset) as stream:
        n, largest = 0, 0
        while n < 5 * len(stream):
            bundle = stream.peek_several(n, MOST)
            assert bundle.n == n
            largest = max(largest, len(bundle))
            for k in range(len(bundle)):
                expected = dataset.plan.compute(n + k)
                assert np.array_equal(bundle.ids[k], expected.pop(IDS))
                assert list(bundle.arrays) == list(expected)
                for name, array in expected.items():
                    assert np.array_equal(bundle.arrays[name][k], array)
            n += len(bundle)
        assert stream.cursor == 0
        assert stream.stats()["batches"] == n
    assert largest == 1 if workers == 0 else largest <= MOST


def test_batches_that_differ_in_shape_are_not_stacked():
    rows = [np.arange(3), np.arange(5), np.arange(2), np.arange(4)]
    dataset = Dataset.from_arrays(x=rows, y=np.arange(4)).pad("x").batch(2)
    with loader_client.connect(workers=0) as loader, loader.stream(dataset) as stream:
        with pytest.raises(DatasetError, match="differ in shape, and cannot be stacked: take them one by one"):
            stream.peek_several(0, MOST)
        assert stream.peek(0)["x"].shape == (2, 5)


def test_those_that_are_there_come_together():
    dataset = Dataset.from_arrays(x=np.arange(400)).batch(4)
    with loader_client.connect(workers=1) as loader, loader.stream(dataset, prefetch=8) as stream:
        n = 0
        while not n or stream.stats()["ready_batches"] < 3:
            n += len(stream.peek_several(n, 1))

        assert len(stream.peek_several(n, 3)) == 3


def test_an_error_waits_until_what_came_before_it_is_handed_out():
    def refuses_sevens(sample):  # in here: by name, workers would import this module, and TensorFlow with it
        if sample["x"][0] == 7:
            raise ValueError("a seven")
        return sample

    dataset = Dataset.from_arrays(x=np.arange(10)[:, None]).map(refuses_sevens).batch(2)
    with loader_client.connect(workers=1) as loader, loader.stream(dataset) as stream:
        n = 0
        while n < 3:
            n += len(stream.peek_several(n, MOST))
        for _ in "ab":
            with pytest.raises(SampleError, match=r"(?s)sample 7.*a seven"):
                stream.peek_several(n, MOST)
        assert stream.peek_several(4, MOST).ids[0].tolist() == [8, 9]


def test_large_batches_and_those_that_differ_go_one_by_one():
    table = replace(INFO, spec={"x": FieldSpec((32,), "float32"), "y": FieldSpec((), "int64")})

    assert is_small(table, 256)
    assert not is_small(table, 4096)
    assert not is_small(replace(table, whole=True), 256)
    assert not is_small(replace(table, spec={"x": FieldSpec((None, 3), "float32", (5,))}), 4)
    assert not is_small(replace(table, spec={"x": FieldSpec((None,), "int64", (5,), "ragged")}), 4)
