"""What is drawn of a value, and what is said of it: rules, without a picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loader_service.dataset.preview.looks import (
    Range,
    is_mask_of,
    kind_of,
    label_of,
    mask_of,
    picture_of,
    planes_of,
    shown_range,
)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((20, 30, 3), "picture"),
        ((20, 30, 1), "picture"),
        ((20, 30, 4), "picture"),
        ((3, 20, 30), "picture"),
        ((20, 30), "picture"),
        ((20, 30, 40), "planes"),
        ((20, 30, 2), "planes"),
        ((16, 20, 30, 3), "planes"),
        ((1, 16, 20, 30), "planes"),
        ((24, 6), "lines"),
        ((500,), "lines"),
        ((10,), "bars"),
        ((), None),
        ((1,), None),
        ((0, 5), None),
        ((2, 2, 2, 2, 2), None),
    ],
)
def test_a_shape_says_how_it_is_drawn(shape, kind):
    assert kind_of(np.zeros(shape, "float32")) == kind


def test_a_window_of_a_series_is_lines_even_if_it_is_short_or_broad():
    assert kind_of(np.zeros((8, 8))) == "picture"
    assert kind_of(np.zeros((8, 8)), series=True) == "lines"
    assert kind_of(np.zeros(8), series=True) == "lines"


def test_text_is_not_drawn():
    assert kind_of(np.asarray(["a", "b"])) is None


def test_channels_that_come_first_are_put_last():
    value = np.arange(3 * 9 * 10).reshape(3, 9, 10)

    assert np.array_equal(picture_of(value)[..., 1], value[1])


def test_of_a_volume_the_middle_slices_are_shown():
    volume = np.random.default_rng(0).random((4, 6, 8))

    front, side, top = planes_of(volume)

    assert np.array_equal(front[..., 0], volume[2])
    assert np.array_equal(side[..., 0], volume[:, 3])
    assert np.array_equal(top[..., 0], volume[:, :, 4])


def test_of_a_film_the_first_the_middle_and_the_last_frame_are_shown():
    film = np.random.default_rng(0).random((9, 6, 8, 3))

    assert all(np.array_equal(plane, film[frame]) for plane, frame in zip(planes_of(film), (0, 4, 8), strict=True))


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=12)))
def test_every_value_that_is_drawn_as_planes_has_some_with_one_or_three_channels(value):
    if kind_of(value) == "planes":
        assert {plane.shape[2] for plane in planes_of(value)} <= {1, 3}
        assert all(plane.size for plane in planes_of(value))


# -- masks ----------------------------------------------------------------------------------------------------


def test_a_mask_lies_over_what_has_its_pixels():
    picture, volume = np.zeros((8, 9, 3), "uint8"), np.zeros((8, 9, 10), "float32")

    assert mask_of(np.ones((8, 9, 1), "uint8"), picture).shape == (8, 9)
    assert mask_of(np.ones((8, 9), "uint8"), picture).shape == (8, 9)
    assert mask_of(np.ones((8, 9, 10), "uint8"), volume).shape == (8, 9, 10)
    assert mask_of(np.ones((8, 9, 1), "uint8"), np.zeros((8, 9, 1))).shape == (8, 9)
    assert mask_of(np.ones((5, 8, 9, 1), "uint8"), np.zeros((5, 8, 9, 3))).shape == (5, 8, 9)
    assert mask_of(np.ones((8, 8, 1), "uint8"), picture) is None
    assert mask_of(np.ones((8, 9, 3), "uint8"), picture) is None


def test_a_field_is_a_mask_by_its_name_or_as_a_target_with_some_classes():
    picture = np.zeros((8, 9, 3), "uint8")
    few, many = np.zeros((8, 9, 1), "float32"), np.random.default_rng(0).random((8, 9, 1))

    assert is_mask_of("mask", few, picture)
    assert is_mask_of("scar", few, picture, known=["scar"])
    assert is_mask_of("y", few, picture, target=True)
    assert not is_mask_of("y", many, picture, target=True)  # a depth, or the same picture again
    assert not is_mask_of("other", few, picture)


# -- ranges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "found", "shown"),
    [
        ("uint8", (10, 200), (0, 255)),
        ("uint8", (0, 16), (0, 16)),
        ("bool", (0, 0), (0, 1)),
        ("float32", (0.1, 0.9), (0, 1)),
        ("float32", (-2.5, 3.0), (-2.5, 3.0)),
        ("float32", (0.0, 0.01), (0.0, 0.01)),
        ("float32", (0.0, 255.0), (0.0, 255.0)),
        ("uint16", (100, 4000), (100, 4000)),
        ("float32", (7.0, 7.0), (6.5, 7.5)),
        ("float32", (None, None), (-0.5, 0.5)),
    ],
)
def test_bytes_and_floats_up_to_one_are_shown_as_they_are_and_others_by_their_range(dtype, found, shown):
    assert shown_range(dtype, Range(*found)) == shown


@given(arrays.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_what_is_drawn_white_is_more_than_what_is_drawn_black(value):
    low, high = shown_range("float32", Range.of(value))

    assert low <= high
    assert np.isfinite([low, high]).all()


def test_a_range_is_that_of_finite_values_and_tells_how_many_are_not():
    found = Range.of(np.asarray([1.0, np.nan, -2.0, np.inf]))

    assert (found.low, found.high, found.odd) == (-2.0, 1.0, 2)
    assert str(found) == "-2 .. 1, 2 NaN or inf"
    assert str(Range.of(np.asarray([np.nan]))) == "1 NaN or inf"
    assert str(found | Range(5, 6)) == "-2 .. 6, 2 NaN or inf"


# -- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("label", np.int64(1), "dog"),
        ("label", np.asarray([0, 1.0, 0]), "dog"),
        ("y", np.asarray([0.05, 0.9, 0.05]), "0.9 dog"),
        ("label", np.asarray([0.5, 0.0, 0.5]), "0.5 cat, 0.5 cow"),
        ("label", np.int64(7), "label 7"),
        ("age", np.float32(0.5), "age 0.5"),
        ("name", np.asarray("Mia"), "name: Mia"),
        ("x", np.zeros((2, 2)), None),
        ("y", np.asarray([3.0, 4.0]), None),
    ],
)
def test_a_label_is_told_in_words(name, value, told):
    assert label_of(name, value, ["cat", "dog", "cow"]) == told
