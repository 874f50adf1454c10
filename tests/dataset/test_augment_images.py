"""Compared with Keras' own functions, on photographs."""

import itertools
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.transforms.augment_images import AugmentImages
from loader_service.dataset.transforms.keras_affine import Affine, transformed
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

pytestmark = pytest.mark.filterwarnings(r"ignore:.*scipy\.ndimage:DeprecationWarning")  # which Keras looks up there

PHOTOS = [load_sample_image(name)[100:220, 200:350] for name in ("china.jpg", "flower.jpg")]
SQUARE = PHOTOS[0][:96, :96]
MODES = ["nearest", "constant", "reflect", "wrap"]
ALL = {
    "rotation_range": 30,
    "width_shift_range": 0.2,
    "height_shift_range": 9,
    "brightness_range": (0.5, 1.6),
    "shear_range": 12,
    "zoom_range": (0.6, 1.3),
    "channel_shift_range": 25,
    "horizontal_flip": True,
    "vertical_flip": True,
}


@pytest.fixture(scope="module")
def keras_image():
    return pytest.importorskip("keras.src.legacy.preprocessing.image")


@pytest.fixture(scope="module")
def generator(keras_image):
    return lambda **options: keras_image.ImageDataGenerator(**options)


def by_keras_names(drawn):
    return {
        **drawn.affine._asdict(),
        "channel_shift_intensity": drawn.channel_shift,
        "brightness": drawn.brightness,
    }


def draws_of(position, key=1):
    return uniforms(key, np.array([position]), AugmentImages.draws)[0].tolist()


def rim(affine, height, width):
    """Where a pixel is looked up less than one pixel outside: there OpenCV blends, and scipy cuts."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    places = np.einsum("ij,jhw->ihw", affine.matrix(height, width), [columns, rows, np.ones_like(rows)])
    near = np.zeros((height, width), bool)
    for place, size in zip(places, (width, height), strict=True):
        near |= ((place > -1.01) & (place < 0.01)) | ((place > size - 1.01) & (place < size + 0.01))
    return near


# -- the picture is that of Keras ---------------------------------------------------------------------------


@pytest.mark.parametrize("photo", PHOTOS, ids=["china", "flower"])
@pytest.mark.parametrize("fill_mode", MODES)
def test_a_photograph_is_warped_as_by_keras(photo, fill_mode, keras_image):
    """OpenCV looks up to 1/32 of a pixel beside, in releases before 5: hence the photographs' steepest slopes count."""
    step = AugmentImages(**{**ALL, "brightness_range": None, "channel_shift_range": 0}, fill_mode=fill_mode)
    steepest = max(np.abs(np.diff(photo.astype(float), axis=axis)).max() for axis in (0, 1))
    for position in range(6):
        affine = step.drawn(draws_of(position), *photo.shape[:2]).affine
        value = photo.astype("float32")
        expected = keras_image.apply_affine_transform(value, *affine[:6], 0, 1, 2, fill_mode, 77.0)
        expected = expected[:: -1 if affine.flip_vertical else 1, :: -1 if affine.flip_horizontal else 1]
        compared = (
            ~rim(affine, *photo.shape[:2]) if fill_mode in ("constant", "wrap") else np.ones(photo.shape[:2], bool)
        )
        assert compared.mean() > 0.9

        for dtype, rounding in (("uint8", 0.51), ("float32", 0.01)):
            warped = transformed(photo.astype(dtype), affine, fill_mode, 77.0, 1, None)

            difference = np.abs(warped.astype("float32") - expected)[compared]
            assert difference.max() < rounding + steepest / 16
            assert difference.mean() < rounding / 2 + 0.3


def test_on_the_rim_of_a_constant_fill_a_pixel_lies_between_the_edge_and_the_fill():
    photo = np.full((20, 20, 1), 200, np.uint8)

    warped = transformed(photo, Affine(ty=0.5), "constant", 0.0, 1, None)

    assert warped[-1, :, 0].tolist() == [100] * 20
    assert (warped[:-1] == 200).all()


@pytest.mark.parametrize("fill_mode", MODES)
@pytest.mark.parametrize("tx, ty", [(7, 0), (0, -11), (5, 13), (-300, 400)])
def test_a_shift_by_whole_pixels_is_exactly_that_of_keras(fill_mode, tx, ty, keras_image):
    photo = PHOTOS[1]

    shifted = transformed(photo, Affine(tx=tx, ty=ty), fill_mode, 9.0, 1, None)

    expected = keras_image.apply_affine_transform(photo, tx=tx, ty=ty, row_axis=0, col_axis=1, channel_axis=2)
    if fill_mode != "nearest":
        expected = keras_image.apply_affine_transform(photo, 0, tx, ty, 0, 1, 1, 0, 1, 2, fill_mode, 9.0)
    if fill_mode == "constant" or abs(tx) < 100:
        assert np.array_equal(shifted, expected)
    else:
        assert (shifted == expected).mean() > 0.9  # scipy's own edges, many periods outside


def test_order_0_takes_pixels_as_they_are():
    photo = PHOTOS[0]

    warped = transformed(photo, Affine(theta=20, zx=0.7), "reflect", 0.0, 0, None)

    shades = {tuple(pixel) for pixel in photo.reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in warped.reshape(-1, 3).tolist()} <= shades


@pytest.mark.parametrize("photo", PHOTOS, ids=["china", "flower"])
def test_all_of_it_together_is_what_keras_makes_of_the_same_parameters(photo, generator):
    """Keras cuts to whole shades after each change, and we round once: two shades at most, times the brightness."""
    theirs = generator(**ALL)
    step = AugmentImages(**ALL)
    for position in range(8):
        draws = draws_of(position, 5)
        drawn = step.drawn(draws, *photo.shape[:2])
        expected = theirs.apply_transform(photo.astype("float32"), by_keras_names(drawn))

        augmented = step.apply(photo, draws, None)

        assert augmented.dtype == np.uint8
        difference = np.abs(augmented - expected)
        assert difference.mean() < 1.5
        assert np.quantile(difference, 0.99) <= 3


@pytest.mark.parametrize(
    "options", [{"channel_shift_range": 40}, {"brightness_range": (0.2, 3)}, {"horizontal_flip": True}]
)
def test_shades_and_flips_alone_are_exactly_those_of_keras(options, generator):
    step = AugmentImages(**options)
    for position in range(6):
        draws = draws_of(position)
        parameters = by_keras_names(step.drawn(draws, *SQUARE.shape[:2]))

        augmented = step.apply(SQUARE, draws, None)

        expected = generator(**options).apply_transform(SQUARE.astype("float32"), parameters)
        assert np.array_equal(augmented, np.rint(expected))


@pytest.mark.parametrize(
    "options",
    [
        {"rescale": 1 / 255},
        {"samplewise_center": True},
        {"samplewise_std_normalization": True},
        {"rescale": 1 / 127.5, "samplewise_center": True, "samplewise_std_normalization": True},
        {"featurewise_center": True},
        {"featurewise_std_normalization": True},
        {"rescale": 1 / 255, "featurewise_center": True, "featurewise_std_normalization": True},
    ],
    ids=lambda options: ", ".join(options),
)
@pytest.mark.filterwarnings("ignore:This ImageDataGenerator specifies")
def test_standardised_values_are_those_of_keras(options, generator):
    theirs = generator(**options)
    photos = np.stack([SQUARE, SQUARE[::-1] // 2])
    theirs.fit(photos)
    statistics = {name: np.ravel(getattr(theirs, name)).tolist() for name in ("mean", "std")}
    wanted = {name: statistics[name] for name in statistics if getattr(theirs, name) is not None}
    dataset = Dataset.from_arrays(image=photos).augment_images(**options, **wanted).batch(2)

    made = dataset.compute(0)["image"]

    expected = np.stack([theirs.standardize(photo.astype("float32")) for photo in photos])
    np.testing.assert_allclose(made, expected, rtol=2e-5, atol=2e-5)
    assert made.dtype == np.float32


def test_stats_of_the_pictures_before_are_scaled_as_the_pictures_are(tmp_path):
    plain = Dataset.from_arrays(image=np.stack([SQUARE, SQUARE // 2])).batch(2)
    stats = plain.stats(workers=0)
    options = {"featurewise_center": True, "featurewise_std_normalization": True}

    made = plain.augment_images(rescale=1 / 255, stats=stats, **options).compute(0)["image"]

    np.testing.assert_allclose(made.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(made.std(axis=(0, 1, 2)), 1, atol=1e-3)


# -- what is drawn ------------------------------------------------------------------------------------------

RANGES = [
    {
        "rotation_range": 25,
        "height_shift_range": 0.3,
        "width_shift_range": [0.1, 0.4],
        "shear_range": 10,
        "zoom_range": 0.4,
        "channel_shift_range": 30,
        "brightness_range": (0.4, 1.2),
        "horizontal_flip": True,
    },
    {"height_shift_range": 5, "width_shift_range": 4.5, "zoom_range": (0.5, 1), "vertical_flip": True},
    {"height_shift_range": [1, 4, 8], "width_shift_range": 1},
]


@pytest.mark.parametrize("options", RANGES, ids=repr)
def test_drawn_parameters_are_distributed_as_those_of_keras(options, generator):
    """100,000 of ours against 2,000 of theirs, by the largest distance of the two distributions (Smirnov)."""
    step, theirs = AugmentImages(**options), generator(**options)
    np.random.seed(3)
    rows = uniforms(7, np.arange(100_000), AugmentImages.draws)
    drawn = [step.drawn(row.tolist(), 60, 80) for row in rows]
    ours = dict(zip(Affine._fields, zip(*(each.affine for each in drawn), strict=True), strict=True))
    ours["channel_shift_intensity"] = [each.channel_shift for each in drawn]
    ours["brightness"] = [each.brightness for each in drawn]
    expected = [theirs.get_random_transform((60, 80, 3)) for _ in range(2000)]

    for name in ours:
        if expected[0][name] is None:
            assert set(ours[name]) == {None}
            continue
        # Rounded: 3 * 0.1 and 0.3 are one choice.
        values, reference = (
            np.sort(np.round(np.asarray(each, float), 9)) for each in (ours[name], [each[name] for each in expected])
        )
        at, spread = np.unique(reference), 0.02 * np.ptp(reference)
        shares = [np.searchsorted(each, at, side="right") / len(each) for each in (values, reference)]
        assert np.abs(shares[0] - shares[1]).max() < 1.95 * np.sqrt(1 / 2000 + 1 / 100_000), name
        assert abs(values[0] - reference[0]) <= spread, name
        assert abs(values[-1] - reference[-1]) <= spread, name


def test_what_is_drawn_for_one_thing_says_nothing_of_another():
    step = AugmentImages(**{**ALL, "height_shift_range": 0.2})
    drawn = [step.drawn(row, 60, 80) for row in uniforms(2, np.arange(5000), AugmentImages.draws).tolist()]

    table = np.array([[*each.affine, each.channel_shift, each.brightness] for each in drawn], float)

    assert np.abs(np.corrcoef(table.T) - np.eye(10)).max() < 0.06


# -- what every step must do --------------------------------------------------------------------------------

STEPS = [
    AugmentImages(**ALL),
    AugmentImages(**ALL, fill_mode="constant", cval=5, rescale=1 / 255),
    AugmentImages(**ALL, fill_mode="reflect", samplewise_std_normalization=True),
    AugmentImages(**ALL, fill_mode="wrap", value_range=(0, 255), interpolation_order=0),
    AugmentImages(horizontal_flip=True, vertical_flip=True),
    AugmentImages(brightness_range=(0, 2)),
    AugmentImages(),
]


@pytest.mark.parametrize("step", STEPS, ids=range(len(STEPS)))
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_it_returns_what_it_declares_with_and_without_a_row_to_write_into(step, dtype):
    for (height, width), channels in itertools.product([(1, 1), (1, 5), (7, 1), (8, 6)], [1, 3, 4, 5]):
        value = (np.arange(height * width * channels) * 37 % 251).reshape(height, width, channels).astype(dtype)
        before, draws = value.copy(), draws_of(3)
        declared = step.declare({"image": FieldSpec.of(value)})["image"]
        row = np.full(declared.shape, 99, declared.dtype)

        alone, into_row = step.apply(value, draws, None), step.apply(value, draws, row)

        assert FieldSpec.of(alone) == FieldSpec.of(into_row) == declared
        assert np.array_equal(alone, into_row)
        assert np.isfinite(alone).all()
        assert np.array_equal(value, before)


@given(st.integers(0, 2**40), st.integers(1, 9))
@settings(max_examples=15)
def test_rows_made_alone_are_those_made_together_and_neighbours_differ(start, rows):
    photos = np.stack([SQUARE[:24, :24]] * 12)
    dataset = Dataset.from_arrays(image=photos).augment_images(**ALL, rescale=1 / 255)
    n = start % 1000
    together = dataset.batch(12).compute(n)["image"]

    alone = dataset.batch(rows)
    first = n * alone.batches_per_epoch
    made = np.concatenate([alone.compute(first + k)["image"] for k in range(alone.batches_per_epoch)])

    assert np.array_equal(made, together)
    assert len(np.unique(together.reshape(12, -1), axis=0)) == 12


def test_alpha_is_moved_and_its_shades_are_kept():
    picture = np.dstack([SQUARE, np.full(SQUARE.shape[:2], 80, np.uint8)])
    step = AugmentImages(brightness_range=(2, 2), channel_shift_range=50, horizontal_flip=True)

    for value in (picture, picture.astype("float32") / 255):
        augmented = step.apply(value, draws_of(1), None)
        assert np.array_equal(augmented[..., 3], value[..., 3])
        assert not np.array_equal(augmented[..., :3], value[..., :3])


def test_floats_are_brightened_within_0_and_1_unless_it_is_said():
    value = np.array([[[0.2], [0.8], [100.0]]], "float32")

    plain = AugmentImages(brightness_range=(2, 2)).apply(value, draws_of(0), None)
    ranged = AugmentImages(brightness_range=(2, 2), value_range=(0, 255)).apply(value, draws_of(0), None)

    assert plain.ravel().tolist() == pytest.approx([0.4, 1, 1])
    assert ranged.ravel().tolist() == pytest.approx([0.4, 1.6, 200])


def test_what_draws_nothing_is_not_random():
    assert not AugmentImages(rescale=1 / 255, zoom_range=0, width_shift_range=0).is_random
    assert AugmentImages(zoom_range=0.1).is_random


def test_it_is_the_same_after_a_way_through_plain_data():
    dataset = Dataset.from_arrays(image=np.zeros((2, 8, 8, 3), "uint8")).augment_images(**ALL).batch(2)
    again = Dataset.from_dict(dataset.to_dict(), dataset.tables)

    assert again.to_dict() == dataset.to_dict()
    step = again.declaration.transforms[0]
    assert isinstance(step.height_shift_range, int)
    assert isinstance(step.width_shift_range, float)


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, told",
    [
        ({"zca_whitening": True}, "zca_whitening is not done here: .* 90 GB .* featurewise_center=True"),
        ({"fill_mode": "nearst"}, "fill_mode: there is no fill mode 'nearst'; did you mean 'nearest'?"),
        ({"zoom_range": (1.2, 0.5)}, r"zoom_range: \(1.2, 0.5\) is turned round: expected the smaller number first"),
        ({"zoom_range": 2}, r"zoom_range: expected a number in \[0, 1\): z means factors from 1 - z to 1 \+ z"),
        ({"zoom_range": (0, 1)}, "zoom_range: .* zooms to nothing: expected factors above 0"),
        ({"brightness_range": (2, 1)}, "brightness_range: .* is turned round"),
        ({"brightness_range": (-1, 1)}, "brightness_range: .* has a factor below 0"),
        ({"brightness_range": 0.5}, "brightness_range: expected two numbers, the least and the largest, got 0.5"),
        ({"rotation_range": -3}, "rotation_range: input should be greater than or equal to 0, got -3"),
        ({"shear_range": (3, 4)}, "shear_range: input should be a valid number"),
        ({"height_shift_range": []}, "height_shift_range: expected a number from 0 on, or a list of numbers"),
        ({"width_shift_range": -0.1}, "width_shift_range: expected a number from 0 on"),
        ({"channel_shift_range": float("nan")}, "channel_shift_range: input should be"),
        ({"horizontal_flip": 2}, "horizontal_flip: input should be a valid boolean, got 2"),
        ({"interpolation_order": 3}, "interpolation_order: input should be 0 or 1, got 3"),
        ({"featurewise_center": True}, "mean: featurewise_... needs it, or stats="),
        ({"featurewise_std_normalization": True, "mean": 3}, "std: featurewise_... needs it"),
        ({"mean": 3}, "mean: it is used with featurewise_center=True"),
        ({"featurewise_std_normalization": True, "mean": 3, "std": 0}, "std: expected deviations above 0, got 0"),
        ({"featurewise_center": True, "mean": 3, "stats": "file.toml"}, "mean and std come from stats: give either"),
    ],
    ids=repr,
)
def test_a_wrong_argument_is_refused_in_a_sentence(options, told):
    with pytest.raises(DatasetError, match=f"^augment_images: .*{told}"):
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3), "uint8")).augment_images(**options)


@pytest.mark.parametrize("name", ["rotation_range", "shear_range"])
def test_more_than_a_whole_turn_is_warned_of(name):
    dataset = Dataset.from_arrays(image=np.zeros((3, 8, 8, 3), "uint8"))

    with pytest.warns(UserWarning, match=f"{name}=400 is more than a whole turn: angles are in degrees"):
        dataset.augment_images(**{name: 400})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.augment_images(**{name: 360})


@pytest.mark.parametrize(
    "step, field, told",
    [
        (AugmentImages(), FieldSpec((8, 8), "uint8"), r"expected a picture \(height, width, channels\)"),
        (AugmentImages(), FieldSpec((8, 8, 3), "int64"), "expected one of .*: cast it first"),
        (AugmentImages(), FieldSpec((8, 40_000, 3), "uint8"), "expected sides of 32,766 pixels at most: crop it"),
        (AugmentImages(cval=-1), FieldSpec((8, 8, 3), "uint8"), r"cval -1 is no shade of .*: expected 0 .. 255"),
        (
            AugmentImages(featurewise_center=True, mean=(1, 2)),
            FieldSpec((8, 8, 3), "uint8"),
            "mean has 2 numbers, .*: expected one number, or one for each channel",
        ),
    ],
)
def test_a_field_that_it_cannot_augment_is_refused_when_it_is_declared(step, field, told):
    with pytest.raises(DatasetError, match=f"^augment_images: .*{told}"):
        step.declare({"image": field})


def test_opencv_takes_sides_as_large_as_are_allowed():
    strip = np.ones((1, 32_766, 1), np.uint8)

    assert cv2.warpAffine(strip, Affine(tx=3.0).matrix(1, 32_766), (32_766, 1), flags=17, borderMode=1).all()
