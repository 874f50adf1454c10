"""Pictures scaled by the kernel are those that OpenCV scales, cut and mirrored after that; where there is none, too."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from loader_service.dataset.transforms.geometry import bilinear
from loader_service.dataset.transforms.geometry.drawing import resized
from loader_service.dataset.transforms.geometry.moves import Cut, Mirror, Scale, Target

needs_kernel = pytest.mark.skipif(bilinear.kernel() is None, reason="there is no kernel, or no AVX2")
SIDES = st.integers(1, 70) | st.integers(71, 400)
MIRRORS = st.builds(Mirror, st.booleans(), st.booleans())


@st.composite
def scalings(draw):
    """A picture's size, a new one, and a part of that."""
    scale = Scale(draw(SIDES), draw(SIDES))
    top, left = draw(st.integers(0, scale.height - 1)), draw(st.integers(0, scale.width - 1))
    height, width = draw(st.integers(1, scale.height - top)), draw(st.integers(1, scale.width - left))
    return draw(SIDES), draw(SIDES), scale, Cut(top, left, height, width)


def noise(*shape):
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def picture_of(height, width, channels, is_part):
    """Noise; or a part of a larger picture, whose lines do not follow one another."""
    return noise(height + 3, width + 5, channels)[3:, 5:] if is_part else noise(height, width, channels)


def turned(picture, part, mirror):
    top, left, height, width = part
    part = picture[top : top + height, left : left + width]
    return part[:: -1 if mirror.top_bottom else 1, :: -1 if mirror.left_right else 1]


def by_opencv(picture, scale, part, mirror):
    return turned(cv2.resize(picture, (scale.width, scale.height)).reshape(*scale, -1), part, mirror)


@needs_kernel
@given(scalings(), st.sampled_from([3, 4]), MIRRORS, st.booleans())
@example((1, 1, Scale(1, 2), Cut(0, 0, 1, 2)), 3, Mirror(False, False), False)
@example((448, 448, Scale(224, 224), Cut(0, 0, 224, 224)), 3, Mirror(True, False), False)  # OpenCV has its own way
def test_the_pixels_are_those_of_opencv(scaling, channels, mirror, is_part):
    height, width, scale, part = scaling
    picture = picture_of(height, width, channels, is_part)
    out = np.empty((part.height, part.width, channels), np.uint8)

    made = bilinear.scaled_bilinearly(picture, Target(scale, part, mirror), out)

    assert made is out
    assert np.array_equal(made, by_opencv(picture, scale, part, mirror))


def halves(picture, down, across):
    """Return means of two pixels, or of four where both is to be done, again and again."""
    for step in range(max(down, across)):
        by = 1 + (step < down), 1 + (step < across)
        parts = [picture[top :: by[0], left :: by[1]].astype(int) for top in range(by[0]) for left in range(by[1])]
        picture = ((sum(parts) + len(parts) // 2) // len(parts)).astype(np.uint8)
    return picture


def looked_up(picture, at, axis):
    """Return a picture of numbers looked up along an axis, at `at`: between two pixels, mixed of them."""
    last = picture.shape[axis] - 1
    before = np.floor(at).astype(int)
    one, other = (np.take(picture, (before + k).clip(0, last), axis) for k in (0, 1))
    behind = np.expand_dims(at - before, [k for k in range(picture.ndim) if k != axis])
    return one * (1 - behind) + other * behind


any_halvings = given(st.data(), st.integers(0, 3), st.integers(0, 3), st.sampled_from([3, 4]), MIRRORS, st.booleans())


def draw_odd(data, down, across, channels, is_part):
    """A picture whose sides have any rest, and its size once it is halved; what is made of it."""
    height, width, scale, part = data.draw(scalings())
    height = ((height % 100 + 1) << down) + data.draw(st.integers(0, (1 << down) - 1))
    width = ((width % 100 + 1) << across) + data.draw(st.integers(0, (1 << across) - 1))
    return picture_of(height, width, channels, is_part), height / 2**down, width / 2**across, scale, part


@any_halvings
@settings(deadline=None)
def test_a_picture_of_odd_sides_is_halved_and_scaled_where_it_was(data, down, across, channels, mirror, is_part):
    picture, height, width, scale, part = draw_odd(data, down, across, channels, is_part)
    smaller = halves(picture[: picture.shape[0] >> down << down, : picture.shape[1] >> across << across], down, across)
    exact = looked_up(smaller, (np.arange(scale.height) + 0.5) * height / scale.height - 0.5, 0)
    exact = looked_up(exact, (np.arange(scale.width) + 0.5) * width / scale.width - 0.5, 1)

    made = bilinear.by_numpy(bilinear.halved(picture, (down, across)), height, width, Target(scale, part, mirror))

    assert np.abs(made - turned(exact, part, mirror)).max() <= 1


@needs_kernel
@any_halvings
@settings(deadline=None)
def test_sides_that_are_odd_make_no_difference_to_the_kernel(data, down, across, channels, mirror, is_part):
    picture, height, width, scale, part = draw_odd(data, down, across, channels, is_part)
    target = Target(scale, part, mirror)

    made = bilinear.scaled_bilinearly(picture, target, None, (down, across))

    assert np.array_equal(made, bilinear.by_numpy(bilinear.halved(picture, (down, across)), height, width, target))


@given(scalings(), st.sampled_from([3, 4]), MIRRORS)
@example((44, 62, Scale(22, 31), Cut(0, 0, 22, 31)), 3, Mirror(True, False))  # OpenCV has its own way
@settings(deadline=None)
def test_numpy_scales_as_opencv_does(scaling, channels, mirror):
    height, width, scale, part = scaling
    picture = noise(height, width, channels)

    made = bilinear.by_numpy(picture, height, width, Target(scale, part, mirror))

    assert np.array_equal(made, by_opencv(picture, scale, part, mirror))


@given(st.integers(401, 900), st.integers(401, 900), st.sampled_from([3, 4]))
@settings(max_examples=30, deadline=None)
def test_pictures_of_odd_sides_are_the_same_without_the_kernel(height, width, channels):
    picture, target = noise(height, width, channels), Target(Scale(90, 120), Cut(7, 20, 80, 100), Mirror(True, False))
    made = resized(picture, target, "bilinear", True, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bilinear, "kernel", lambda: None)
        plain = resized(picture, target, "bilinear", True, None)

    assert np.array_equal(made, plain)


@needs_kernel
@any_halvings
@settings(deadline=None)
def test_what_is_halved_first_has_the_pixels_of_opencv(data, down, across, channels, mirror, is_part):
    height, width, scale, part = data.draw(scalings())
    height, width = (height % 100 + 1) << down, (width % 100 + 1) << across
    picture = picture_of(height, width, channels, is_part)
    smaller = bilinear.halved(picture, (down, across))

    made = bilinear.scaled_bilinearly(picture, Target(scale, part, mirror), None, (down, across))

    assert np.array_equal(smaller, halves(picture, down, across))
    assert np.array_equal(made, by_opencv(smaller, scale, part, mirror))


@given(st.data(), st.sampled_from([1, 3, 4]), MIRRORS, st.sampled_from(["uint8", "float32"]))
@settings(deadline=None)
def test_a_picture_that_becomes_much_smaller_is_halved_as_long_as_it_is_twice_as_large(data, channels, mirror, dtype):
    scale = Scale(*data.draw(st.tuples(*[st.integers(1, 20)] * 2)))
    part = Cut(scale.height // 3, scale.width // 2, scale.height - scale.height // 3, scale.width - scale.width // 2)
    height, width = (8 * side for side in data.draw(st.tuples(*[st.integers(1, 25)] * 2)))
    picture = noise(height, width, channels).astype(dtype)
    down, across = (
        (old > 2 * new) + (old > 4 * new) + (old > 8 * new) for old, new in zip((height, width), scale, strict=True)
    )
    assume(height <= 16 * scale.height and width <= 16 * scale.width)

    made = resized(picture, Target(scale, part, mirror), "bilinear", True, None)

    assert np.array_equal(made, by_opencv(bilinear.halved(picture, (down, across)), scale, part, mirror))


@needs_kernel
@given(scalings(), st.sampled_from([3, 4]))
def test_nothing_is_written_beside_the_row(scaling, channels):
    height, width, scale, part = scaling
    rows = np.full((3, part.height, part.width, channels), 77, np.uint8)

    bilinear.scaled_bilinearly(noise(height, width, channels), Target(scale, part, Mirror(False, True)), rows[1])

    assert (rows[[0, 2]] == 77).all()


@given(scalings(), st.sampled_from([1, 2, 3, 4]), MIRRORS, st.sampled_from(["uint8", "float32"]))
def test_pictures_of_all_kinds_are_scaled_cut_and_mirrored(scaling, channels, mirror, dtype):
    height, width, scale, part = scaling
    picture = noise(height, width, channels).astype(dtype)

    made = resized(picture, Target(scale, part, mirror), "bilinear", False, None)

    assert np.array_equal(made, by_opencv(picture, scale, part, mirror))


@needs_kernel
def test_a_row_that_does_not_fit_is_left_alone():
    other = np.zeros((5, 5, 3), np.uint8)

    made = bilinear.scaled_bilinearly(noise(9, 9, 3), Target.whole(5, 6), other)

    assert made.shape == (5, 6, 3)
    assert not other.any()
