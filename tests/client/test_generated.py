"""A generator as a dataset of TensorFlow's: what `from_generator` makes, by a shorter way."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_client import generated as module
from loader_client.generated import generated

NUMBERS = tf.TensorSpec((None,), tf.int64)
DTYPES = (tf.uint8, tf.int16, tf.int32, tf.int64, tf.float16, tf.float32, tf.float64, tf.bool)
specs = st.builds(tf.TensorSpec, st.lists(st.sampled_from([None, 1, 3]), max_size=3), st.sampled_from(DTYPES))
structures = st.recursive(
    specs,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple) | st.dictionaries(st.sampled_from("zxy"), inner, min_size=1)
    ),
    max_leaves=5,
)


def element_of(signature, rng):
    """Return an element of some shape that fits; a number by itself is one of NumPy's."""
    rows = int(rng.integers(0, 4))

    def leaf(spec):
        shape = [rows if size is None else size for size in spec.shape]
        return np.asarray(rng.integers(0, 2, shape)).astype(spec.dtype.as_numpy_dtype)

    return tf.nest.map_structure(leaf, signature)


@settings(max_examples=30)
@given(structures, st.integers(0, 3), st.integers(0, 2**32))
def test_elements_are_those_of_from_generator(signature, count, seed):
    rng = np.random.default_rng(seed)
    elements = [element_of(signature, rng) for _ in range(count)]

    dataset = generated(lambda: iter(elements), signature)
    expected = tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=signature)

    assert dataset.element_spec == expected.element_spec
    for _ in range(2):  # each pass begins anew
        found = list(dataset)
        assert len(found) == count
        for one, other in zip(found, expected, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_passes_do_not_know_of_each_other():
    dataset = generated(lambda: iter(np.arange(4)[:, None]), NUMBERS)

    assert [(int(a[0]), int(b[0])) for a, b in itertools.product(dataset, dataset)] == [
        *itertools.product(range(4), repeat=2)
    ]


def test_nothing_is_copied():
    array = np.zeros(64 + 16, np.int64)
    array = array[-array.ctypes.data % 64 // 8 :][:64]
    tensor = next(iter(generated(lambda: iter([array]), NUMBERS)))

    array[7] = 5
    assert int(tensor[7]) == 5


def test_what_a_generator_raises_is_raised():
    def failing():
        yield np.arange(3)
        raise ZeroDivisionError("in the second element")

    drawn = iter(generated(failing, NUMBERS))

    assert next(drawn).numpy().tolist() == [0, 1, 2]
    with pytest.raises(tf.errors.OpError, match="ZeroDivisionError: in the second element"):
        next(drawn)


def test_a_generator_that_cannot_begin_says_why():
    def refuses():
        raise ZeroDivisionError("not today")

    with pytest.raises(tf.errors.OpError, match="ZeroDivisionError: not today"):
        next(iter(generated(refuses, NUMBERS)))


def test_a_pass_that_is_broken_off_lets_go_of_its_generator():
    class Counting:
        def __iter__(self):
            return self

        def __next__(self):
            return np.arange(3)

    kept = []

    def begin():
        counting = Counting()
        kept.append(weakref.ref(counting))
        return counting

    dataset = generated(begin, NUMBERS)
    drawn = iter(dataset)
    next(drawn)
    assert kept[0]() is not None
    del drawn
    gc.collect()

    assert kept[0]() is None


@pytest.mark.parametrize(
    ("value", "signature"),
    [
        (np.array([b"a", b"bc"], object), tf.TensorSpec((None,), tf.string)),
        (tf.ragged.constant([[1, 2], [3]]), tf.RaggedTensorSpec((2, None), tf.int32)),
    ],
)
def test_tensors_of_other_kinds_go_the_long_way(value, signature):
    (found,) = generated(lambda: iter([value]), signature)

    assert tf.reduce_all(found == value)


def test_a_tensorflow_that_has_moved_the_operation_does_it_the_long_way(monkeypatch):
    monkeypatch.setattr(module, "_GeneratorDataset", None)

    assert [each.numpy().tolist() for each in generated(lambda: iter([np.arange(2)]), NUMBERS)] == [[0, 1]]
