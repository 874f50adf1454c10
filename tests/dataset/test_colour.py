"""Colours and quality of pictures: one picture at a time, against Pillow, Python's colorsys and scipy."""

import colorsys
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.transforms.colour.channel_shift import RandomChannelShift
from loader_service.dataset.transforms.colour.grey import Grayscale, RandomGrayscale
from loader_service.dataset.transforms.colour.jitter import (
    ColorJitter,
    RandomBrightness,
    RandomContrast,
    RandomHue,
    RandomSaturation,
)
from loader_service.dataset.transforms.colour.tables import (
    RandomAutocontrast,
    RandomEqualize,
    RandomGamma,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from loader_service.dataset.transforms.erasing import RandomErasing
from loader_service.dataset.transforms.quality.blur import RandomBlur, RandomSharpness
from loader_service.dataset.transforms.quality.jpeg import RandomJpeg
from loader_service.dataset.transforms.quality.noise import RandomNoise, fill_normals
from loader_service.dataset.transforms.rand_augment import RandAugment, operate
from loader_service.dataset.transforms.standardize import Standardize
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

SIZES = [(1, 1), (1, 5), (3, 1), (8, 6)]
COLOURED = [
    RandomSaturation(factor=0.5),
    RandomHue(factor=0.3),
    RandomHue(factor=0.3, hue_space="yiq"),
    ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    ColorJitter(contrast=0.4, saturation=0.4, hue=0.1, hue_space="yiq"),
    RandomGrayscale(probability=1),
]
BYTES_ALONE = [
    RandomPosterize(bits=3, probability=1),
    RandomEqualize(probability=1),
    RandomJpeg(quality=(20, 80)),
    RandAugment(num_ops=3, magnitude=20),
]
STEPS = [
    RandomBrightness(factor=0.5),
    RandomContrast(factor=(0.2, 3)),
    ColorJitter(brightness=0.4, contrast=0.4),
    RandomGamma(gamma=(0.5, 2)),
    RandomChannelShift(shift=(0.1, 30)),
    RandomChannelShift(shift=40, per_channel=False),
    RandomInvert(probability=1),
    RandomSolarize(probability=1),
    RandomAutocontrast(probability=1),
    RandomBlur(sigma=(0.5, 2)),
    RandomSharpness(factor=(0, 3)),
    RandomNoise(std=(0.01, 20)),
    RandomErasing(probability=1, boxes=2, fill="noise"),
    RandomErasing(probability=1, fill=0.5),
    RandomBrightness(factor=0.5, probability=0.5),
    *COLOURED,
    *BYTES_ALONE,
]


def noisy(height, width, channels, dtype="uint8", seed=0):
    """Return a picture of all colours; floats are in 0 .. 1."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return picture if dtype == "uint8" else (picture / 255).astype(np.float32)


def smooth(seed=0):
    return cv2.resize(noisy(12, 16, 3, seed=seed), (61, 47), interpolation=cv2.INTER_CUBIC)


def draws_of(transform, position=0, key=1):
    return uniforms(key, np.array([position]), transform.draws)[0].tolist()


def done(transform, value, **options):
    return transform.model_copy(update=options).apply(value, draws_of(transform), None)


def takes(transform, channels, dtype):
    coloured = transform in COLOURED and channels == 1
    return not coloured and not (transform in BYTES_ALONE and dtype == "float32")


# -- what holds for all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("transform", STEPS, ids=repr)
def test_a_step_returns_what_it_declares_wherever_it_writes(transform):
    """Alone, into a row, and in place; a view of a larger picture, too."""
    for (height, width), channels, dtype in itertools.product(SIZES, (1, 3, 4), ("uint8", "float32")):
        if not takes(transform, channels, dtype):
            continue
        value = noisy(height + 2, width + 2, channels, dtype)[1:-1, 1:-1]
        value.flags.writeable = False
        declared = transform.declare({"image": FieldSpec.of(value)})["image"]
        row, own = np.full(value.shape, 99, dtype), value.copy()

        alone = transform.apply(value, draws_of(transform), None)
        into_row = transform.apply(value, draws_of(transform), row)
        in_place = transform.apply(own, draws_of(transform), own)

        assert FieldSpec.of(alone) == declared == FieldSpec.of(value)
        assert np.array_equal(alone, into_row)
        np.testing.assert_allclose(alone, in_place, rtol=0, atol=0 if dtype == "uint8" else 1e-6)  # SIMD ends elsewhere
        assert np.isfinite(alone).all()


@pytest.mark.parametrize("transform", STEPS, ids=repr)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_columns_pictures_are_those_that_are_made_alone(transform, dtype):
    if not takes(transform, 3, dtype):
        return
    column = np.stack([noisy(6, 7, 3, dtype, seed) for seed in range(12)])
    draws = uniforms(4, np.arange(12), transform.draws)
    alone = np.stack([transform.apply(value, each, None) for value, each in zip(column, draws, strict=True)])
    row = np.empty_like(column)

    assert np.array_equal(transform.apply_column(column, draws, None), alone)
    assert np.array_equal(transform.apply_column(column, draws, row), alone)
    assert np.array_equal(row, alone)
    assert np.array_equal(transform.apply_column(column.copy(), draws, None), alone)


@pytest.mark.parametrize(
    "transform", [step for step in STEPS if not isinstance(step, RandomBlur | RandomErasing)], ids=repr
)
def test_alpha_is_left_alone(transform):
    if isinstance(transform, RandAugment):
        return  # it moves alpha with the colours
    value = noisy(9, 8, 4)

    changed = transform.apply(value, draws_of(transform), None)

    assert np.array_equal(changed[..., 3], value[..., 3])


DRAWING = [step for step in STEPS if step.draws > 1 and step.probability == 1]


@pytest.mark.parametrize("transform", DRAWING, ids=repr)
def test_neighbours_draw_numbers_of_their_own(transform):
    column = np.repeat(noisy(16, 16, 3)[None], 40, axis=0)

    changed = transform.apply_column(column, uniforms(4, np.arange(40), transform.draws), None)

    assert len({picture.tobytes() for picture in changed}) > 15


def test_rows_are_the_same_however_they_are_cut():
    images = np.stack([noisy(8, 9, 3, seed=seed) for seed in range(24)])
    dataset = Dataset.from_arrays(image=images).color_jitter(0.4, 0.4, 0.4, 0.1).random_noise((1, 9)).random_erasing()
    plan = dataset.rand_augment().standardize().shuffle(3).batch(12).plan
    whole = plan.compute(1)

    for start, stop in [(0, 12), (5, 6), (3, 11)]:
        rows = plan.empty_rows(stop - start)
        plan.fill(1, start, stop, rows)
        assert np.array_equal(rows["image"], whole["image"][start:stop])


@pytest.mark.parametrize(("probability", "some"), [(0.0, 0), (0.3, 150), (1.0, 500)])
def test_a_step_is_done_to_its_share_of_the_samples(probability, some):
    column = np.repeat(noisy(2, 2, 3)[None], 500, axis=0)
    invert = RandomInvert(probability=probability)

    changed = invert.apply_column(column, uniforms(4, np.arange(500), invert.draws), None)

    assert abs((changed != column).any(axis=(1, 2, 3)).sum() - some) <= 5 * np.sqrt(
        500 * probability * (1 - probability)
    )


# -- against others -----------------------------------------------------------------------------------------

FACTORS = [0, 0.3, 0.9, 1, 1.4, 2.5]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("step", "theirs"),
    [
        (RandomBrightness, ImageEnhance.Brightness),
        (RandomContrast, ImageEnhance.Contrast),
        (RandomSaturation, ImageEnhance.Color),
        (RandomSharpness, ImageEnhance.Sharpness),
    ],
)
def test_a_factor_means_what_it_means_to_pillow(step, theirs, factor):
    """Within one level: Pillow, and torchvision, cut fractions off where these are rounded."""
    picture = smooth()

    expected = np.asarray(theirs(Image.fromarray(picture)).enhance(factor))

    assert np.abs(done(step(factor=(factor, factor)), picture) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("step", [RandomBrightness, RandomContrast, RandomSaturation, RandomSharpness])
@pytest.mark.parametrize("low, high", [(0, 1), (0, 255), (-1, 1)])
def test_floats_are_changed_as_bytes_are_whatever_their_range(step, factor, low, high):
    picture = smooth()
    floats = (low + picture / 255 * (high - low)).astype(np.float32)

    changed = done(step(factor=(factor, factor), value_range=(low, high)), floats)

    expected = done(step(factor=(factor, factor)), picture) / 255 * (high - low) + low
    np.testing.assert_allclose(changed, expected, atol=1.2 * (high - low) / 255)


@pytest.mark.parametrize("turn", [0.1, 1 / 3, -0.4, 0.5])
def test_hues_turn_as_in_colorsys(turn):
    picture = noisy(9, 8, 3)
    turned = [
        colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        for hue, saturation, value in (colorsys.rgb_to_hsv(*pixel) for pixel in (picture / 255).reshape(-1, 3))
    ]
    expected = np.reshape(turned, picture.shape)

    of_bytes = done(RandomHue(factor=(turn, turn)), picture)
    of_floats = done(RandomHue(factor=(turn, turn)), (picture / 255).astype(np.float32))
    signed = done(RandomHue(factor=(turn, turn), value_range=(-1, 1)), (picture / 127.5 - 1).astype(np.float32))

    assert np.abs(of_bytes - 255 * expected).max() <= 1
    np.testing.assert_allclose(signed, 2 * expected - 1, atol=1e-5)
    np.testing.assert_allclose(of_floats, expected, atol=1e-5)


def test_hues_of_yiq_keep_their_grey_and_turn_the_same_way():
    """Thirds of a turn lead from red to green in HSV and YIQ alike; the middle of colours stays where it is."""
    red = np.uint8([[[140, 100, 100]]])
    turn = RandomHue(factor=(1 / 3, 1 / 3), hue_space="yiq")

    turned = done(turn, red)[0, 0]

    assert turned.argmax() == 1
    assert abs(float(turned @ [0.299, 0.587, 0.114]) - float(red[0, 0] @ [0.299, 0.587, 0.114])) <= 1.5
    assert np.abs(done(turn, np.full((2, 2, 3), 77, np.uint8)).astype(int) - 77).max() <= 1


@given(st.floats(0, 4))
@settings(max_examples=60, deadline=None)
def test_colours_are_brightened_as_each_channel_by_itself(factor):
    """Three channels go another way than one: each byte comes out the same."""
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    brighten = RandomBrightness(factor=(factor, factor))

    in_colour = done(brighten, np.concatenate([picture, picture[::-1], picture[:, ::-1]], axis=2))

    assert np.array_equal(in_colour[..., :1], done(brighten, picture))
    assert np.array_equal(in_colour[..., 1:2], done(brighten, picture[::-1].copy()))


@given(st.floats(0.8, 1.1), st.floats(0.8, 1.1), st.floats(0.6, 1.2), st.floats(-0.5, 0.5))
@settings(max_examples=30, deadline=None)
def test_jitter_is_its_four_parts_one_after_the_other(brightness, contrast, saturation, hue):
    """Up to what is cut off between them: of a picture in the middle of its range, nothing."""
    assume((brightness, contrast, saturation, hue) != (1, 1, 1, 0))
    value = 0.35 + 0.3 * noisy(6, 5, 3, "float32")

    at_once = done(
        ColorJitter(
            brightness=(brightness,) * 2, contrast=(contrast,) * 2, saturation=(saturation,) * 2, hue=(hue, hue)
        ),
        value,
    )

    for part, option in ((RandomBrightness, brightness), (RandomContrast, contrast), (RandomSaturation, saturation)):
        value = done(part(factor=(option, option)), value)
    np.testing.assert_allclose(at_once, done(RandomHue(factor=(hue, hue)), value), atol=2e-5)


@pytest.mark.parametrize("gamma", [0.4, 1, 2.2])
def test_gamma_is_a_power(gamma):
    step = RandomGamma(gamma=(gamma, gamma))
    picture = smooth()

    assert np.abs(done(step, picture) - 255 * (picture / 255) ** gamma).max() <= 0.5
    floats = (picture / 255).astype(np.float32)
    np.testing.assert_allclose(done(step, floats), floats.astype(np.float64) ** gamma, atol=1e-5)
    np.testing.assert_allclose(
        done(step, 2 * floats - 1, value_range=(-1, 1)), 2 * floats.astype(np.float64) ** gamma - 1, atol=1e-5
    )


@pytest.mark.parametrize(
    ("step", "theirs", "tolerance"),
    [
        (RandomInvert(probability=1), ImageOps.invert, 0),
        (RandomSolarize(probability=1), ImageOps.solarize, 0),
        (RandomSolarize(threshold=77, probability=1), lambda picture: ImageOps.solarize(picture, 77), 0),
        (RandomPosterize(bits=3, probability=1), lambda picture: ImageOps.posterize(picture, 3), 0),
        (RandomEqualize(probability=1), ImageOps.equalize, 0),
        (RandomAutocontrast(probability=1), ImageOps.autocontrast, 1),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_tables_are_those_of_pillow(step, theirs, tolerance):
    for picture in (smooth(), smooth() // 3 + 40, np.full((5, 4, 3), 9, np.uint8)):
        expected = np.asarray(theirs(Image.fromarray(picture))).astype(int)
        assert np.abs(done(step, picture) - expected).max() <= tolerance


@pytest.mark.parametrize("step", [RandomInvert, RandomSolarize, RandomAutocontrast])
def test_tables_of_floats_are_those_of_bytes(step):
    picture = smooth() // 2 + 30
    floats = (picture / 255).astype(np.float32)

    np.testing.assert_allclose(
        done(step(probability=1), floats), done(step(probability=1), picture) / 255, atol=0.6 / 255
    )


def test_grey_is_that_of_pillow():
    picture = smooth()
    expected = np.asarray(Image.fromarray(picture).convert("L")).astype(int)

    one, three = Grayscale().apply(picture, [], None), Grayscale(channels=3).apply(picture, np.empty(0), None)

    assert np.abs(one[..., 0] - expected).max() <= 1
    assert np.array_equal(three, np.repeat(one, 3, axis=2))
    assert np.array_equal(done(RandomGrayscale(probability=1), picture), three)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale_declares_its_channels(dtype, channels):
    column = np.stack([noisy(4, 5, 4, dtype, seed) for seed in range(3)])
    step = Grayscale(channels=channels)

    grey = step.apply_column(column, np.empty((3, 0)), None)

    assert FieldSpec.of(grey[0]) == step.declare({"image": FieldSpec.of(column[0])})["image"]
    assert np.array_equal(grey[1], step.apply(column[1], [], np.empty_like(grey[1])))


def test_channels_are_shifted_each_by_its_own_number():
    picture = np.full((4, 4, 3), 100, np.uint8)
    shift = RandomChannelShift(shift=50)

    shifted = np.stack([shift.apply(picture, draws_of(shift, position), None)[0, 0] for position in range(300)])

    assert (np.abs(shifted.astype(int) - 100) <= 50).all()
    assert np.abs(shifted.mean(axis=0) - 100).max() < 9
    assert np.abs(np.corrcoef(shifted.T) - np.eye(3)).max() < 0.25


def test_one_shift_of_all_channels_is_that_of_keras():
    """`keras.preprocessing.image.apply_channel_shift`: cut off at the picture's own least and largest value."""
    picture = smooth() // 2 + 40
    shift = RandomChannelShift(shift=(30, 30), per_channel=False)

    shifted = done(shift, picture)

    assert np.array_equal(shifted, np.clip(picture.astype(int) + 30, picture.min(), picture.max()))


# -- quality ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.6, 1.3, 3])
def test_blur_is_that_of_scipy(sigma):
    picture = smooth()
    expected = gaussian_filter(
        picture.astype(np.float64), (sigma, sigma, 0), radius=(*[round(3 * sigma)] * 2, 0), mode="mirror"
    )

    assert np.abs(done(RandomBlur(sigma=sigma), picture) - expected).max() <= 1
    floats = done(RandomBlur(sigma=sigma), picture.astype(np.float32))
    np.testing.assert_allclose(floats, expected, atol=1e-3)


def test_a_blur_of_nothing_is_the_picture():
    assert np.array_equal(done(RandomBlur(sigma=0), smooth()), smooth())


def test_noise_has_the_mean_and_the_deviation_that_it_should_have():
    made, other = np.empty(400_001, np.float32), np.empty(50, np.float32)
    fill_normals(made, 7)
    fill_normals(other, 8)
    noise = made.astype(np.float64)

    assert abs(noise.mean()) < 5 / np.sqrt(400_000)
    assert abs(noise.std() - 1) < 0.006
    assert abs((np.abs(noise) > 1.96).mean() - 0.05) < 0.002
    assert abs((noise**4).mean() - 3) < 0.06
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01
    assert not np.isin(other, made[:50]).all()


def test_noise_of_bytes_and_floats_is_in_the_pictures_own_units():
    grey = np.full((80, 90, 3), 128, np.uint8)

    of_bytes = done(RandomNoise(std=10), grey).astype(float) - 128
    of_floats = done(RandomNoise(std=0.1), np.full((80, 90, 3), 0.5, np.float32)) - 0.5

    assert abs(of_bytes.std() - 10) < 0.2
    assert abs(of_floats.std() - 0.1) < 0.002


def test_jpeg_loses_more_the_lower_its_quality():
    picture = smooth()
    losses = [
        np.abs(done(RandomJpeg(quality=quality), picture).astype(int) - picture).mean() for quality in (100, 60, 5)
    ]

    assert losses[0] < losses[1] < losses[2]


# -- regularisers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxes", [1, 3])
def test_what_is_erased_are_boxes_of_the_declared_size_and_shape(boxes):
    erase = RandomErasing(probability=1, boxes=boxes, scale=(0.05, 0.1), ratio=(0.5, 2), fill=(1, 2, 3))
    picture = np.full((60, 80, 3), 200, np.uint8)

    for position in range(30):
        draws = draws_of(erase, position)
        erased = (erase.apply(picture, draws, None) == (1, 2, 3)).all(axis=2)
        found = [erase.box(60, 80, draws[number * 22 : number * 22 + 22]) for number in range(boxes)]
        expected = np.zeros((60, 80), bool)
        for top, left, height, width in found:
            assert 0.045 < height * width / 4800 < 0.11
            assert 0.45 < width / height < 2.2
            expected[top : top + height, left : left + width] = True
        assert np.array_equal(erased, expected)


def test_noise_that_covers_is_of_all_values():
    erase = RandomErasing(probability=1, scale=(0.9, 0.9), ratio=(1, 1), fill="noise", value_range=(-1, 1))

    covered = erase.apply(np.zeros((60, 60, 1), np.float32), draws_of(erase), None)

    assert covered.min() < -0.99
    assert covered.max() > 0.99
    assert abs(covered[covered != 0].mean()) < 0.05


def test_rand_augment_of_magnitude_zero_changes_little():
    """Posterize and solarize then keep all bits; autocontrast and equalize have no magnitude."""
    picture = smooth()
    augment = RandAugment(magnitude=0, num_ops=1)

    same = [
        np.array_equal(augment.apply(picture, draws_of(augment, position), None), picture) for position in range(60)
    ]

    assert np.mean(same) > 0.7


@pytest.mark.parametrize(("operation", "axis"), [("translate_x", 1), ("translate_y", 0)])
def test_rand_augment_shifts_by_the_papers_share_of_the_side(operation, axis):
    picture = noisy(100, 100, 3)
    moved = picture.copy()

    operate(operation, moved, 15, True, 7)

    by = int(150 / 331 * 100 * 0.5)
    expected = np.roll(picture, -by, axis=axis)
    expected[(slice(None),) * axis + (slice(-by, None),)] = 7
    assert np.array_equal(moved, expected)


@pytest.mark.parametrize(
    ("operation", "theirs"),
    [
        ("rotate", lambda picture: picture.rotate(30 * 2 / 3)),
        ("shear_x", lambda picture: picture.transform(picture.size, Image.Transform.AFFINE, (1, -0.2, 0, 0, 1, 0))),
        ("shear_y", lambda picture: picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, 0, -0.2, 1, 0))),
    ],
)
def test_rand_augment_turns_and_shears_as_pillow_does(operation, theirs):
    """Nearest neighbours: at halves between two pixels, either is one."""
    picture = smooth()
    moved = picture.copy()

    operate(operation, moved, 20, False, 0)

    assert np.abs(moved - np.asarray(theirs(Image.fromarray(picture))).astype(int)).mean() < 3


# -- bad input ----------------------------------------------------------------------------------------------

IMAGES = Dataset.from_arrays(image=np.zeros((3, 8, 8, 3), "uint8"))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda d: d.random_brightness((1.2, 0.8)),
            r"random_brightness: factor: \(1.2, 0.8\) is turned round: expected",
        ),
        (
            lambda d: d.random_brightness(20),
            "factor: one number f stands for factors from 1 - f to 1 \\+ f, so it is 0 .. 1",
        ),
        (lambda d: d.random_contrast((-1, 1)), r"factor: \(-1, 1\) is no range of 0 or more"),
        (lambda d: d.random_contrast("much"), "factor: expected two numbers, the ends of a range, or one"),
        (lambda d: d.random_saturation((1, 2, 3)), "factor: expected two numbers"),
        (lambda d: d.random_saturation(float("nan")), "factor: one number f"),
        (lambda d: d.random_hue(30), "factor: 30 is no share of a full turn, 0 .. 0.5: divide degrees by 360"),
        (lambda d: d.random_hue((-0.7, 0)), r"factor: \(-0.7, 0\) is no range of -0.5 .. 0.5"),
        (lambda d: d.random_hue(0.1, hue_space="hls"), "hue_space: input should be 'hsv' or 'yiq', got 'hls'"),
        (lambda d: d.color_jitter(), "color_jitter: nothing is jittered: give brightness"),
        (lambda d: d.random_gamma((0, 1)), r"random_gamma: gamma \(0.0, 1.0\) must be above 0"),
        (lambda d: d.random_invert(2), "random_invert: probability: input should be less than or equal to 1, got 2"),
        (lambda d: d.random_posterize(0), "bits: input should be greater than or equal to 1, got 0"),
        (lambda d: d.random_noise(-1), r"std: \(-1, -1\) is no range of 0 or more"),
        (lambda d: d.random_noise(3, value_range=(1, 1)), "value_range .* is empty"),
        (lambda d: d.random_jpeg(0), r"random_jpeg: quality \(0.0, 0.0\) is no range of 1 .. 100"),
        (lambda d: d.random_erasing(scale=(0, 2)), "is no range of shares of the area"),
        (lambda d: d.random_erasing(boxes=9), "boxes: input should be less than or equal to 8"),
        (lambda d: d.rand_augment(magnitude=31), "magnitude: input should be less than or equal to 30"),
        (lambda d: d.standardize(center=False, std=False), "standardize: neither center nor std is left"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_declared(make, told):
    with pytest.raises(DatasetError, match=told):
        make(IMAGES)


@pytest.mark.parametrize(
    ("step", "spec", "told"),
    [
        (RandomBrightness(factor=0.1), FieldSpec((4, 4), "uint8"), r"expected a picture \(height, width, channels\)"),
        (RandomBrightness(factor=0.1), FieldSpec((4, 4, 2), "uint8"), "expected 1, 3 or 4 channels"),
        (RandomBrightness(factor=0.1), FieldSpec((4, 4, 3), "uint16"), r"rescale it first, .rescale\(1 / 65535"),
        (
            RandomBrightness(factor=0.1),
            FieldSpec((4, 4, 3), "float64"),
            r"cast it first, .cast\('image', \"float32\"\)",
        ),
        (RandomHue(factor=0.1), FieldSpec((4, 4, 1), "uint8"), "grey has no colour: leave it out"),
        (ColorJitter(hue=0.1), FieldSpec((4, 4, 1), "uint8"), "grey has no colour: leave saturation and hue out"),
        (RandomEqualize(), FieldSpec((4, 4, 3), "float32"), "expected uint8: put it before what makes floats"),
        (RandomInvert(value_range=(0, 1)), FieldSpec((4, 4, 3), "uint8"), "value_range is for float pictures"),
        (RandomErasing(fill=(1, 2)), FieldSpec((4, 4, 3), "uint8"), "fill has 2 numbers"),
        (RandomErasing(fill=300), FieldSpec((4, 4, 3), "uint8"), "is no colour of bytes"),
        (Standardize(), FieldSpec((), "float32"), "expected real numbers, more than one"),
        (Standardize(per_channel=True), FieldSpec((5,), "float32"), "with a last axis of channels"),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_a_field_that_does_not_fit_is_refused_and_told_what_would(step, spec, told):
    with pytest.raises(DatasetError, match=f"^{step.kind}: field 'image' is .*{told}|^{step.kind}: .*{told}"):
        step.declare({"image": spec})


def test_ranges_that_mean_the_same_make_the_same_dataset():
    keys = {
        IMAGES.random_brightness(factor).batch(3).key for factor in (0.25, (0.75, 1.25), [0.75, 1.25], np.float32(0.25))
    }

    assert len(keys) == 1


@pytest.mark.parametrize(("scale", "options", "doubted"), [(1, {}, 1), (1, {"value_range": (0, 255)}, 0), (255, {}, 0)])
def test_float_pictures_in_other_units_are_told_of_when_a_stream_is_opened(scale, options, doubted):
    images = np.stack([noisy(8, 8, 3), noisy(8, 8, 3)]).astype(np.float32)
    images[:, 0, 0], images[:, 1, 1] = 0, 255
    images /= scale

    doubts = Dataset.from_arrays(image=images).random_brightness(0.2, **options).batch(2).plan.doubts()

    assert len(doubts) == doubted
    assert all("are 0 .. 255 in the first sample" in told and "value_range=" in told for told in doubts)


# -- standardize --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "float16"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 1), (6, 2), (40,), (3, 4, 5, 6)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_standardized_samples_have_mean_zero_and_deviation_one(dtype, shape, per_channel):
    if per_channel and len(shape) == 1:
        return
    value = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    step = Standardize(per_channel=per_channel)
    axes = tuple(range(len(shape) - 1)) if per_channel else None
    exact = value.astype(np.float64)
    expected = (exact - exact.mean(axis=axes)) / (exact.std(axis=axes) + 1e-6)

    made = step.apply(value, [], None)
    column = step.apply_column(np.stack([value, value]), np.empty((2, 0)), np.empty((2, *shape), np.float32))

    np.testing.assert_allclose(made, expected, atol=1e-4)
    assert made.dtype == np.float32
    assert np.array_equal(column, [made, made])
    if dtype == "float32":
        assert np.array_equal(step.apply(own := value.copy(), [], own), made)


def test_standardize_is_that_of_keras_generator():
    """ImageDataGenerator's samplewise_center and samplewise_std_normalization, each by itself."""
    value = smooth().astype(np.float32)

    centered = Standardize(std=False).apply(value, [], None)
    divided = Standardize(center=False).apply(value, [], None)

    np.testing.assert_allclose(centered, value - value.mean(dtype=np.float64), atol=1e-3)
    np.testing.assert_allclose(divided, value / (value.std(dtype=np.float64) + 1e-6), rtol=1e-5)


def test_a_sample_of_one_value_stays_finite():
    assert np.array_equal(Standardize().apply(np.full((4, 4, 3), 7, np.uint8), [], None), np.zeros((4, 4, 3)))
