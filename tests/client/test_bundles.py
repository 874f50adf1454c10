"""Small batches go to TensorFlow several at a time, and come out as they went in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loader_client
from loader_client.bundles import MOST, Bundles, is_small
from loader_service import Dataset
from loader_service.protocol.errors import SampleError
from loader_service.protocol.spec import FieldSpec


def element(number, rows=4):
    return {"x": np.full((rows, 3), number, np.float32)}, np.full(rows, number)


def taken_apart(bundles):
    for x, y in bundles:
        assert len(x["x"]) == len(y) <= MOST
        for row in range(len(y)):
            yield x["x"][row], y[row]


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=50))
def test_what_comes_out_is_what_went_in_whatever_is_ready_and_however_long_batches_are(told):
    elements = [element(number, rows) for number, (rows, _) in enumerate(told)]
    ready = itertools.chain((is_ready for _, is_ready in told), itertools.repeat(True))

    found = list(taken_apart(Bundles(elements, lambda: next(ready))))

    assert len(found) == len(elements)
    for (x, y), (fields, expected) in zip(found, elements, strict=True):
        assert np.array_equal(x, fields["x"])
        assert np.array_equal(y, expected)


def test_what_is_there_is_drawn_at_once_and_what_is_not_is_not_waited_for():
    there = iter([True] * 4 + [False] + [True] * MOST)
    sizes = [len(y) for _, y in Bundles(map(element, range(4 + MOST + 2)), lambda: next(there, False))]

    assert sizes == [4, MOST, 1, 1]


def test_one_that_is_alone_is_not_copied():
    alone = element(1)
    ((x, y),) = Bundles([alone], lambda: False)

    assert np.shares_memory(x["x"], alone[0]["x"])
    assert np.shares_memory(y, alone[1])


def test_an_error_waits_until_what_came_before_it_is_handed_out():
    def failing():
        yield element(0)
        yield element(1)
        raise SampleError("sample 7")

    bundles = Bundles(failing(), lambda: True)

    assert len(next(bundles)[1]) == 2
    for _ in "ab":
        with pytest.raises(SampleError, match="sample 7"):
            next(bundles)


def test_large_batches_and_those_that_differ_go_one_by_one():
    table = {"x": FieldSpec((32,), "float32"), "y": FieldSpec((), "int64")}

    assert is_small(table, 256)
    assert not is_small(table, 4096)
    assert not is_small({"x": FieldSpec((None, 3), "float32", (5,))}, 4)
    assert not is_small({"x": FieldSpec((None,), "int64", (5,), "ragged")}, 4)


def test_a_stream_knows_what_is_there():
    dataset = Dataset.from_arrays(x=np.arange(64)).batch(4)
    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(dataset, prefetch=4)
        assert not stream.ready, "nothing was asked for"
        stream.take(0)
        while not stream.ready:
            stream.take(stream.cursor)
        assert stream.stats()["ready_batches"] >= 1
    with loader_client.connect(workers=0) as loader, loader.stream(dataset) as stream:
        stream.take(0)
        assert not stream.ready
