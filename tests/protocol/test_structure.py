import collections

import pytest

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.structure import names_in, put_together, taken_apart, without_lists

Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        (1, ["x"]),
        ((1, 2), ["x", "y"]),
        ((1, 2, 3), ["x", "y", "weight"]),
        (({"a": 1, "b": [2, 3]}, (4, 5)), ["x/a", "x/b/0", "x/b/1", "y/0", "y/1"]),
        ({"a": 1}, ["x/a"]),
        ((([1], 2),), ["x/0/0", "x/1"]),
        (({"a": 1}, {"b": 2}, {"b": 3}), ["x/a", "y/b", "weight/b"]),
    ],
)
def test_a_batch_is_put_together_as_it_was_taken_apart(batch, names):
    structure, arrays = taken_apart(batch)

    assert list(arrays) == list(names_in(structure)) == names
    assert put_together(structure, arrays.__getitem__) == batch


@pytest.mark.parametrize(
    ("batch", "as_keras_takes_it"),
    [
        ([1, 2], (1, 2)),  # a list at the top is a tuple to Keras
        ((1,), 1),
        ((1, None), 1),
        ((1, 2, None), (1, 2)),
        ((Pair(1, 2), 3), ((1, 2), 3)),
        (((1, 2), None), ((1, 2),)),  # or its parts would be taken for inputs and targets
    ],
)
def test_what_keras_takes_for_the_same_comes_back_as_one(batch, as_keras_takes_it):
    structure, arrays = taken_apart(batch)

    assert put_together(structure, arrays.__getitem__) == as_keras_takes_it


def test_lists_are_tuples_to_tensorflow():
    structure, arrays = taken_apart(([1, 2], 3))

    assert put_together(structure, arrays.__getitem__) == ([1, 2], 3)
    assert put_together(without_lists(structure), arrays.__getitem__) == ((1, 2), 3)


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (None, r"it is None, expected x, \(x, y\) or \(x, y, weights\)"),
        ((1, 2, 3, 4), "it is a tuple of 4, expected x"),
        ((), "it is a tuple of 0, expected x"),
        ((1, None, 3), "'y' in it is None"),
        (({"a": None}, 1), "'x/a' in it is None"),
        (({1: 2}, 3), "'x' in it is a dict with the key 1, expected names"),
        (({"a/b": 1, "a": {"b": 2}}, 3), "would both be the field 'x/a/b'"),
    ],
)
def test_what_keras_could_not_take_is_refused(batch, told):
    with pytest.raises(DatasetError, match=told):
        taken_apart(batch)
