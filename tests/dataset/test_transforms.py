import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.resize import RandomResizedCrop, Resize
from loader_service.dataset.transforms.values import Cast, Normalize, OneHot, Rescale
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec

NONE = []  # the draws of a transform that draws nothing
SIZES = [(1, 1), (1, 5), (7, 1), (8, 6), (16, 16)]
CHANNELS = [1, 3, 4, 5]
DTYPES = ["uint8", "float32"]


def picture(height, width, channels, dtype="uint8"):
    count = height * width * channels
    return (np.arange(count) * 37 % 251).reshape(height, width, channels).astype(dtype)


def draws_of(transform, position=0, key=1):
    return uniforms(key, np.array([position]), transform.draws)[0].tolist()


TRANSFORMS = [
    Resize(height=5, width=9),
    Resize(height=1, width=1, interpolation="nearest"),
    Resize(height=16, width=16, interpolation="cubic"),
    CenterCrop(height=1, width=1),
    RandomCrop(height=1, width=1),
    RandomResizedCrop(height=4, width=6),
    RandomFlip(horizontal=1, vertical=1),
    RandomFlip(horizontal=1),
    RandomFlip(vertical=1),
    RandomFlip(horizontal=0),
    Rescale(field="image", scale=0.5, offset=-1),
    Normalize(field="image", mean=3, std=2),
    Cast(field="image", dtype="int32"),
    Cast(field="image", dtype="uint8"),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_transform_returns_what_it_declares_with_and_without_a_row_to_write_into(transform, dtype):
    for (height, width), channels in itertools.product(SIZES, CHANNELS):
        value = picture(height, width, channels, dtype)
        before = value.copy()
        declared = transform.declare({"image": FieldSpec.of(value)})["image"]
        row = np.full(declared.shape, 99, declared.dtype)

        alone = transform.apply(value, draws_of(transform), None)
        into_row = transform.apply(value, draws_of(transform), row)

        assert FieldSpec.of(alone) == FieldSpec.of(into_row) == declared
        assert np.array_equal(alone, into_row)
        assert np.array_equal(value, before)


def test_the_other_fields_are_left_alone():
    spec = {"image": FieldSpec((4, 4, 3), "uint8"), "label": FieldSpec((), "int64")}

    assert Resize(height=2, width=2).declare(spec) == {**spec, "image": FieldSpec((2, 2, 3), "uint8")}


@pytest.mark.parametrize("transform", [step for step in TRANSFORMS if "image" in repr(step)], ids=repr)
def test_a_field_that_is_not_there_is_refused_with_those_that_are(transform):
    with pytest.raises(
        DatasetError, match=rf"{transform.kind}: there is no field 'image'; the sample has \['x', 'y'\]"
    ):
        transform.declare({"x": FieldSpec((4, 4, 3), "uint8"), "y": FieldSpec((), "int64")})


@pytest.mark.parametrize(
    "transform",
    [Resize(height=1, width=1), CenterCrop(height=1, width=1), RandomCrop(height=1, width=1), RandomFlip()],
    ids=repr,
)
def test_a_field_that_is_no_picture_is_refused(transform):
    with pytest.raises(
        DatasetError, match=r"'image' is uint8 \(4, 4\), expected a picture \(height, width, channels\)"
    ):
        transform.declare({"image": FieldSpec((4, 4), "uint8")})


@pytest.mark.parametrize(
    "others, told",
    [
        ({"label": FieldSpec((), "int64")}, ""),
        ({"photo": FieldSpec((5, 5, 3), "uint8"), "label": FieldSpec((), "int64")}, "; field='photo' would fit"),
        (
            {"left": FieldSpec((5, 5, 3), "uint8"), "right": FieldSpec((5, 5, 1), "float32")},
            "; field='left' or field='right' would fit",
        ),
    ],
)
def test_a_field_of_the_wrong_rank_is_refused_with_those_that_would_fit(others, told):
    with pytest.raises(DatasetError) as refused:
        RandomFlip().declare({"image": FieldSpec((4,), "float32"), **others})

    assert str(refused.value) == (
        f"random_flip: field 'image' is float32 (4,), expected a picture (height, width, channels){told}"
    )


# -- geometry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, flag", [("nearest", 6), ("bilinear", 1), ("cubic", 2), ("area", 3), ("lanczos", 4)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_is_that_of_opencv(name, flag, channels, dtype):
    value = picture(13, 17, channels, dtype)

    resized = Resize(height=7, width=9, interpolation=name).apply(value, NONE, None)

    expected = cv2.resize(value, (9, 7), interpolation=flag)
    assert np.array_equal(resized, expected.reshape(7, 9, channels))


def test_resize_to_its_own_size_copies_nothing():
    value = picture(13, 17, 3)

    assert Resize(height=13, width=17).apply(value, NONE, None) is value


@pytest.mark.parametrize("dtype", ["int64", "uint32", "float16", "bool"])
def test_a_dtype_that_cannot_be_resized_is_refused_when_it_is_declared(dtype):
    with pytest.raises(DatasetError, match=rf"resize: field 'image' is {dtype} .*: cast it first"):
        Resize(height=2, width=2).declare({"image": FieldSpec((4, 4, 3), dtype)})


def test_area_interpolation_of_many_channels_is_refused_when_it_is_declared():
    with pytest.raises(DatasetError, match='interpolation="area" takes at most 4 channels'):
        Resize(height=2, width=2, interpolation="area").declare({"image": FieldSpec((4, 4, 5), "uint8")})


@pytest.mark.parametrize("height, width", SIZES)
def test_center_crop_takes_the_middle(height, width):
    value = picture(20, 17, 3)

    cropped = CenterCrop(height=height, width=width).apply(value, NONE, None)

    top, left = (20 - height) // 2, (17 - width) // 2
    assert np.array_equal(cropped, value[top : top + height, left : left + width])


def test_random_crop_takes_every_place_about_equally_often():
    value = np.arange(4 * 6).reshape(4, 6, 1)
    crop = RandomCrop(height=2, width=4)

    corners = [int(crop.apply(value, draws, None)[0, 0, 0]) for draws in uniforms(3, np.arange(9000), crop.draws)]

    places, counts = np.unique(corners, return_counts=True)
    assert places.tolist() == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert ((counts - 1000) ** 2 / 1000).sum() < 8 + 5 * 4


@pytest.mark.parametrize("crop", [CenterCrop(height=5, width=4), RandomCrop(height=5, width=4)], ids=repr)
def test_a_crop_of_the_whole_picture_is_the_picture(crop):
    value = picture(5, 4, 3)

    assert np.array_equal(crop.apply(value, draws_of(crop), None), value)


@pytest.mark.parametrize("kind", ["center_crop", "random_crop"])
def test_a_crop_larger_than_the_picture_names_the_sample_and_both_sizes(kind):
    dataset = getattr(Dataset.from_arrays(image=np.zeros((3, 20, 30, 3), "uint8")), kind)(24, 24).batch(3)

    with pytest.raises(
        SampleError,
        match=rf"sample 0 \(row 0\): {kind}: the picture is 20 x 30 pixels, smaller than the crop of 24 x 24."
        " Resize it first, or make the crop smaller.",
    ):
        dataset.compute(0)


pixels = st.integers(1, 3000)


@given(
    pixels,
    pixels,
    st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)).map(sorted),
    st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)).map(sorted),
    st.integers(0, 2**40),
)
@settings(max_examples=400)
def test_the_box_of_a_random_resized_crop_lies_inside_the_picture(height, width, scale, ratio, position):
    crop = RandomResizedCrop(height=1, width=1, scale=scale, ratio=ratio)

    top, left, box_height, box_width = crop.box(height, width, draws_of(crop, position))

    assert 0 <= top < top + box_height <= height
    assert 0 <= left < left + box_width <= width


@pytest.mark.parametrize("draw", [0.0, np.nextafter(1, 0)])
def test_the_box_lies_inside_at_both_ends_of_the_draws(draw):
    crop = RandomResizedCrop(height=1, width=1)

    for height, width in itertools.product([1, 2, 3, 100, 65536], repeat=2):
        top, left, box_height, box_width = crop.box(height, width, np.full(crop.draws, draw))
        assert 0 <= top < top + box_height <= height
        assert 0 <= left < left + box_width <= width


def test_the_box_has_the_declared_share_of_the_area_and_a_declared_ratio():
    crop = RandomResizedCrop(height=1, width=1, scale=(0.2, 0.5), ratio=(0.8, 1.6))

    boxes = np.array([crop.box(1000, 1000, draws)[2:] for draws in uniforms(5, np.arange(2000), crop.draws)])

    area, ratio = boxes.prod(axis=1) / 1e6, boxes[:, 1] / boxes[:, 0]
    assert area.min() > 0.199
    assert area.max() < 0.501
    assert abs(area.mean() - 0.35) < 0.01
    assert ratio.min() > 0.798
    assert ratio.max() < 1.603
    assert abs(np.log(ratio).mean() - np.log(0.8 * 1.6) / 2) < 0.02


def test_a_picture_too_narrow_for_any_box_gives_its_middle():
    """Ten attempts fail where the picture is a strip: the largest centred part of a legal ratio is taken."""
    crop = RandomResizedCrop(height=1, width=1, scale=(0.9, 1))

    assert crop.box(10, 1000, draws_of(crop)) == (0, 493, 10, 13)
    assert crop.box(1000, 10, draws_of(crop)) == (493, 0, 13, 10)


def test_random_resized_crop_is_the_box_resized():
    value = picture(40, 50, 3)
    crop = RandomResizedCrop(height=8, width=9, antialias=False)
    draws = draws_of(crop, 7)
    top, left, height, width = crop.box(40, 50, draws)

    cropped = crop.apply(value, draws, None)

    assert np.array_equal(cropped, cv2.resize(value[top : top + height, left : left + width], (9, 8)))


@pytest.mark.parametrize(
    "options, told",
    [
        ({"scale": (0.5, 0.1)}, r"scale: \(0.5, 0.1\) is no range: expected two numbers, 0 < low <= high"),
        ({"scale": (0, 1)}, "is no range"),
        ({"scale": (0.1, 1.5)}, r"scale \(0.1, 1.5\) exceeds 1, the whole picture"),
        ({"ratio": (4 / 3, 3 / 4)}, "ratio: .* is no range"),
        ({"ratio": (1, float("inf"))}, "ratio.1: input should be a finite number"),
        ({"ratio": (1, 2, 3)}, "ratio: tuple should have at most 2 items"),
        (
            {"interpolation": "linear"},
            "interpolation: input should be 'nearest', 'bilinear', 'area', 'cubic' or 'lanczos', got 'l",
        ),
        ({"height": 0}, "height: input should be greater than or equal to 1, got 0"),
        ({"width": 2.5}, "width: input should be a valid integer"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_declared(options, told):
    with pytest.raises(DatasetError, match=f"^random_resized_crop: .*{told}"):
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3))).random_resized_crop(**{"height": 4, "width": 4, **options})


# -- flip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "float16", "float32", "bool", "complex64"])
@pytest.mark.parametrize("horizontal, vertical", [(1, 0), (0, 1), (1, 1), (0, 0)])
def test_flip_is_that_of_numpy_even_in_place(dtype, horizontal, vertical):
    flip = RandomFlip(horizontal=horizontal, vertical=vertical)
    for (height, width), channels in itertools.product(SIZES, CHANNELS):
        value = picture(height, width, channels).astype(dtype)
        expected = value[:: -1 if vertical else 1, :: -1 if horizontal else 1].copy()

        assert np.array_equal(flip.apply(value, draws_of(flip), None), expected)
        assert np.array_equal(flip.apply(value, draws_of(flip), value), expected)


@pytest.mark.parametrize("horizontal, vertical", [(0.5, 0.0), (0.2, 0.7), (1.0, 0.0), (0.0, 0.0)])
def test_flip_mirrors_with_its_probabilities(horizontal, vertical):
    flip = RandomFlip(horizontal=horizontal, vertical=vertical)
    value = np.array([[[0], [1]], [[2], [3]]], np.uint8)

    corners = [int(flip.apply(value, draws, None)[0, 0, 0]) for draws in uniforms(9, np.arange(10_000), 2)]

    left_right, top_bottom = np.array(corners) % 2, np.array(corners) // 2
    for mirrored, probability in ((left_right, horizontal), (top_bottom, vertical)):
        assert abs(mirrored.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / 10_000) + 1e-9
    assert abs((left_right * top_bottom).mean() - horizontal * vertical) < 0.025


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan"), "often"])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(DatasetError, match=r"^random_flip: horizontal: input should be"):
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3))).random_flip(horizontal=probability)


# -- values -------------------------------------------------------------------------------------------------

VALUES = [np.arange(250, dtype="uint8"), np.linspace(-5, 5, 24, dtype="float32").reshape(2, 3, 4), np.int64(7)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value.dtype))
def test_rescale_multiplies_and_adds(value):
    rescaled = Rescale(scale=1 / 127.5, offset=-1).apply(value, NONE, None)

    np.testing.assert_allclose(rescaled, value / 127.5 - 1, rtol=1e-5, atol=1e-6)
    assert rescaled.dtype == np.float32


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value.dtype))
def test_normalize_subtracts_and_divides(value):
    normalized = Normalize(mean=1.5, std=3).apply(value, NONE, None)

    np.testing.assert_allclose(normalized, (value - 1.5) / 3, rtol=1e-5, atol=1e-6)
    assert normalized.dtype == np.float32


def test_normalize_takes_one_number_for_each_channel():
    value = picture(8, 6, 3)
    mean, std = [1.0, 20.0, 30.0], [0.5, 2.0, 4.0]

    normalized = Normalize(mean=mean, std=std).apply(value, NONE, None)

    np.testing.assert_allclose(normalized, (value - np.array(mean)) / std, rtol=1e-5, atol=1e-5)


def test_normalize_takes_what_numpy_computed():
    x = np.arange(12, dtype="float32").reshape(6, 2)
    dataset = Dataset.from_arrays(x=x).batch(6)

    by_channel = dataset.normalize(x.mean(axis=0), x.std(axis=0), field="x").compute(0)["x"]
    by_all = dataset.normalize(x.mean(), x.std(), field="x").compute(0)["x"]

    for normalized in (by_channel.mean(axis=0), by_all.mean()):
        np.testing.assert_allclose(normalized, 0, atol=1e-6)


def test_normalize_of_another_number_of_channels_is_refused():
    with pytest.raises(
        DatasetError, match=r"normalize: mean has 2 numbers, field 'image' is uint8 \(4, 4, 3\): expected"
    ):
        Normalize(mean=(1, 2), std=1).declare({"image": FieldSpec((4, 4, 3), "uint8")})


@pytest.mark.parametrize("std", [0, -1, (1, 0, 1)])
def test_a_deviation_that_is_not_above_zero_is_refused(std):
    with pytest.raises(DatasetError, match=r"^normalize: std .* must be above 0"):
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3))).normalize(0, std)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", "bool", "complex64"])
def test_cast_is_that_of_numpy(dtype):
    value = np.array([[0.0, 1.7], [100.2, 3.5]], "float32")

    cast = Cast(field="x", dtype=dtype).apply(value, NONE, None)

    assert cast.dtype == dtype
    assert np.array_equal(cast, value.astype(dtype))


@pytest.mark.parametrize("spelling", ["float32", "f4", "<f4", ">f4", np.float32, np.dtype("float32")])
def test_all_spellings_of_a_dtype_make_the_same_dataset(spelling):
    arrays = Dataset.from_arrays(x=np.arange(4)).batch(2)

    assert arrays.cast("x", spelling).key == arrays.cast("x", "float32").key


@pytest.mark.parametrize("dtype", ["flaot32", "U5", "object", "M8[s]", "(2,", ""])
def test_what_is_no_dtype_of_numbers_is_refused_when_it_is_declared(dtype):
    with pytest.raises(DatasetError, match=r"^cast: dtype: expected a NumPy dtype of numbers or bool: .*, got "):
        Dataset.from_arrays(x=np.arange(4)).cast("x", dtype)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "uint64", "int8"])
def test_one_hot_is_a_row_of_the_identity(dtype):
    labels = np.array([3, 0, 1, 1], dtype)

    assert np.array_equal(OneHot(classes=4).apply(labels, NONE, None), np.eye(4, dtype="float32")[[3, 0, 1, 1]])
    assert np.array_equal(OneHot(classes=4).apply(labels[0], NONE, None), [0, 0, 0, 1])


def test_one_hot_of_vectors_adds_an_axis():
    labels = np.array([[0, 1], [2, 0]])

    encoded = OneHot(classes=3).apply(labels, NONE, None)

    assert np.array_equal(encoded, np.eye(3)[labels])
    assert OneHot(classes=3).declare({"label": FieldSpec((2,), "int64")})["label"] == FieldSpec((2, 3), "float32")


def test_one_hot_overwrites_what_the_row_held():
    row = np.full(4, 9, "float32")

    OneHot(classes=4).apply(np.int64(2), NONE, row)

    assert row.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("label", [10, -1])
def test_a_label_out_of_range_names_the_sample_and_the_range(label):
    labels = np.arange(10)
    labels[7] = label

    with pytest.raises(
        SampleError, match=rf"^sample 7 \(row 7\): one_hot: label {label} in field 'y', expected 0 .. 9"
    ):
        Dataset.from_arrays(y=labels).one_hot("y", 10).batch(5).compute(1)


def test_one_hot_of_fractions_is_refused_when_the_dataset_is_opened():
    with pytest.raises(DatasetError, match=r"one_hot: field 'y' is float64 \(\), expected whole numbers"):
        _ = Dataset.from_arrays(y=np.zeros(4)).one_hot("y", 10).batch(2).spec
