"""Each geometric step by itself: against OpenCV, SciPy and Pillow, at edge sizes, and with what users mistype."""

import itertools
import json
import warnings

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from loader_service import Dataset
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.draws import uniforms
from loader_service.dataset.schema import json_schema
from loader_service.dataset.transforms.geometry.affine import RandomRotate, RandomShear, RandomShift, RandomZoom
from loader_service.dataset.transforms.geometry.elastic import RandomElastic
from loader_service.dataset.transforms.geometry.moves import as_array
from loader_service.dataset.transforms.geometry.pad_image import PadImage
from loader_service.dataset.transforms.geometry.perspective import RandomPerspective
from loader_service.dataset.transforms.geometry.placement import placed
from loader_service.dataset.transforms.geometry.resize import Resize
from loader_service.protocol.errors import DatasetError, DatasetWarning
from loader_service.protocol.spec import FieldSpec

NONE = np.empty(0)
SIZES = [(1, 1), (1, 5), (7, 1), (16, 11)]
SCIPY = {"nearest": "nearest", "constant": "grid-constant", "reflect": "reflect", "wrap": "grid-wrap"}
WARPS = [
    RandomRotate(degrees=(20, 40)),
    RandomShift(horizontal=(0.1, 0.3), vertical=(-4, 3)),
    RandomShear(horizontal=30, vertical=(5, 20)),
    RandomZoom(zoom=(0.6, 1.7), per_axis=True),
    RandomPerspective(distortion=0.6),
    RandomElastic(alpha=30, sigma=4),
]
STEPS = [
    *WARPS,
    RandomRotate(degrees=90, interpolation="nearest", fill_mode="constant", fill_value=7),
    RandomRotate(degrees=90, interpolation="cubic", fill_mode="reflect"),
    RandomRotate(degrees=90, interpolation="lanczos", fill_mode="wrap"),
    RandomZoom(zoom=(0.1, 0.2)),
    RandomElastic(alpha=300, sigma=30, fill_mode="reflect"),
    RandomShift(horizontal=0.9, probability=0),
    PadImage(padding=3),
    PadImage(padding=(0, 2), fill_mode="reflect"),
    PadImage(height=9, width=6, fill_mode="wrap"),
    Resize(height=5, width=3, interpolation="lanczos"),
]


def smooth(height, width, channels=3, seed=0):
    """A picture of float32 0 .. 255 without fine detail."""
    noise = np.random.default_rng(seed).random((height, width, channels)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 4).reshape(noise.shape)
    low, high = blurred.min(), blurred.max()
    return (blurred - low) / (high - low or 1) * 255


def draws_of(step, position=0, key=1):
    return uniforms(key, np.array([position]), step.draws)[0].tolist()


def matrix_of(step, height, width, draws):
    return as_array(placed(height, width, step.moves(height, width, draws)).to_picture())


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_step_returns_what_it_declares_with_and_without_a_row_to_write_into(step, dtype):
    for (height, width), channels in itertools.product(SIZES, [1, 3, 4, 5]):
        value = smooth(height, width, channels).astype(dtype)
        before = value.copy()
        declared = step.declare({"image": FieldSpec.of(value)})["image"]
        row = np.full(declared.shape, 99, declared.dtype)

        alone = step.apply(value, draws_of(step), None)
        into_row = step.apply(value, draws_of(step), row)

        assert FieldSpec.of(alone) == FieldSpec.of(into_row) == declared
        assert np.array_equal(alone, into_row)
        assert np.array_equal(value, before)
        assert into_row is row or channels == 5 or step.kind in ("pad_image", "random_shift")


@pytest.mark.parametrize("step", WARPS, ids=lambda step: step.kind)
@pytest.mark.parametrize("fill_mode", SCIPY)
def test_a_warp_looks_where_scipy_looks_with_the_same_matrix(step, fill_mode):
    """SciPy is what Keras' ImageDataGenerator warps with. Its "grid-" modes are those that Keras' docs draw."""
    step = step.model_copy(update={"fill_mode": fill_mode, "fill_value": 50.0})
    value, draws = smooth(40, 56), draws_of(step, 3)
    place = placed(40, 56, step.moves(40, 56, draws))
    if place.bend is None:
        y, x = np.mgrid[:40, :56]
        u, v, w = np.tensordot(as_array(place.to_picture()), np.stack([x, y, np.ones_like(x)]), axes=1)
        u, v = u / w, v / w
    else:
        u, v = place.maps().transpose(2, 0, 1)

    made = step.apply(value, draws, None)

    each = [map_coordinates(value[..., k], [v, u], order=1, mode=SCIPY[fill_mode], cval=50) for k in range(3)]
    np.testing.assert_allclose(made, np.stack(each, -1), atol=255 / 32)  # some OpenCVs look at places of 1/32 pixel
    assert np.abs(made - np.stack(each, -1)).mean() < 0.5


@pytest.mark.parametrize("angle", [0, 17, 90, -133.5])
def test_rotation_is_that_of_opencv_to_the_left(angle):
    step, value = RandomRotate(degrees=(angle, angle), fill_mode="constant"), smooth(31, 40)

    turned = step.apply(value, draws_of(step), None)

    expected = cv2.warpAffine(value, cv2.getRotationMatrix2D((19.5, 15), angle, 1), (40, 31))
    np.testing.assert_allclose(turned, expected, atol=1)


def test_a_quarter_turn_is_that_of_numpy():
    value = smooth(20, 20).astype(np.uint8)
    step = RandomRotate(degrees=(90, 90), interpolation="nearest")

    assert np.array_equal(step.apply(value, draws_of(step), None), np.rot90(value))


def test_a_shift_moves_to_the_right_and_down_by_pixels_or_by_a_share():
    value = smooth(20, 40).astype(np.uint8)
    pixels = RandomShift(horizontal=(4, 4), vertical=(-2, -2), fill_mode="constant", fill_value=9)
    share = RandomShift(horizontal=(0.1, 0.1), vertical=(-0.1, -0.1), fill_mode="constant", fill_value=9)
    expected = np.full_like(value, 9)
    expected[:18, 4:] = value[2:, :-4]

    assert np.array_equal(pixels.apply(value, draws_of(pixels), None), expected)
    assert np.array_equal(share.apply(value, draws_of(share), None), expected)


@pytest.mark.parametrize(
    "step, seen",
    [
        (RandomShear(horizontal=(45, 45)), (15, 5)),  # the top leans to the right
        (RandomShear(vertical=(45, 45)), (10, 5 + 0)),
        (RandomZoom(zoom=(2, 2)), (10, 0)),
        (RandomZoom(zoom=(0.5, 0.5)), (10, 7.5)),
    ],
    ids=repr,
)
def test_a_place_above_the_middle_goes_where_the_step_says(step, seen):
    """Of a picture of 21 x 21, whose middle is (10, 10): where is (10, 5) then?"""
    lead = np.linalg.inv(matrix_of(step, 21, 21, draws_of(step)))

    np.testing.assert_allclose((lead @ [10, 5, 1])[:2], seen)


def test_perspective_moves_the_corners_inwards_within_its_distortion():
    step = RandomPerspective(distortion=0.4)
    corners = np.array([(-0.5, -0.5, 1), (99.5, -0.5, 1), (99.5, 59.5, 1), (-0.5, 59.5, 1)]).T
    moved = []
    for position in range(300):
        u, v, w = np.linalg.inv(matrix_of(step, 60, 100, draws_of(step, position))) @ corners
        moved.append(np.stack([u / w, v / w], -1))
    inwards = np.abs(np.array(moved) - corners[:2].T) / (100, 60)

    assert inwards.min() >= -1e-4
    assert 0.19 < inwards.max() < 0.2 + 1e-4
    assert np.all(np.abs(inwards.mean(axis=0) - 0.1) < 0.02)


@pytest.mark.parametrize("sigma", [1, 4, 12])
def test_elastic_shifts_are_as_strong_as_simards(sigma):
    """Also where the noise is drawn for larger cells: uniform noise, blurred, has alpha / (sigma * sqrt(12 pi))."""
    step = RandomElastic(alpha=20, sigma=sigma)

    shifts = np.concatenate([step.moves(200, 200, draws_of(step, k))[0].shifts[20:-20, 20:-20] for k in range(6)])

    expected = 20 / (sigma * np.sqrt(12 * np.pi))
    assert abs(shifts.std() / expected - 1) < 0.15
    assert abs(shifts.mean()) < expected / 4


@pytest.mark.parametrize("step", WARPS, ids=lambda step: step.kind)
def test_a_probability_says_how_often_a_step_happens(step):
    step = step.model_copy(update={"probability": 0.25})

    happened = [bool(step.moves(8, 8, draws)) for draws in uniforms(9, np.arange(2000), step.draws)]

    assert abs(np.mean(happened) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


@pytest.mark.parametrize(
    "mode, numpy_mode", [("nearest", "edge"), ("constant", "constant"), ("reflect", "symmetric"), ("wrap", "wrap")]
)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_padding_is_that_of_numpy(mode, numpy_mode, channels):
    value = smooth(9, 7, channels).astype(np.uint8)

    padded = PadImage(padding=(2, 3), fill_mode=mode).apply(value, NONE, None)

    assert np.array_equal(padded, np.pad(value, [(2, 2), (3, 3), (0, 0)], mode=numpy_mode))


def test_a_picture_is_padded_to_a_size_and_a_larger_one_stays_as_it_is():
    step = PadImage(height=10, width=10, fill_value=5)

    padded = step.apply(smooth(7, 12).astype(np.uint8), NONE, None)

    assert padded.shape == (10, 12, 3)
    assert (padded[0] == 5).all() and (padded[-2:] == 5).all()


# -- resize -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "cubic", "lanczos"])
@pytest.mark.parametrize("size", [(120, 161), (99, 200), (640, 40)])
def test_scaling_down_by_much_is_antialiased_as_by_pillow(interpolation, size):
    """Of noise, one pixel in some would be noise again; all of them together are nearly grey."""
    noise = np.random.default_rng(3).integers(0, 255, (*size, 3), dtype=np.uint8)
    photo = (smooth(*size) * 0.7 + noise * 0.3).astype(np.uint8)
    step = Resize(height=20, width=18, interpolation=interpolation)
    filters = {"bilinear": Image.BILINEAR, "cubic": Image.BICUBIC, "lanczos": Image.LANCZOS}

    made = step.apply(photo, NONE, None).astype(float)

    expected = np.asarray(Image.fromarray(photo).resize((18, 20), filters[interpolation])).astype(float)
    plain = step.model_copy(update={"antialias": False}).apply(photo, NONE, None)
    off, off_plain = np.abs(made - expected).mean(), np.abs(plain - expected).mean()
    assert off < 8
    assert off < 0.6 * off_plain


def test_scaling_down_without_antialias_is_opencvs():
    value = smooth(100, 90).astype(np.uint8)

    made = Resize(height=12, width=9, antialias=False).apply(value, NONE, None)

    assert np.array_equal(made, cv2.resize(value, (9, 12)))


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (130, 31)])
def test_antialiasing_moves_nothing(size):
    """Halving an odd number of pixels leaves one over: what is seen must stay where it was."""
    y, x = np.mgrid[: size[0], : size[1]]
    ramp = np.stack([x, y], -1).astype(np.float32)

    made = Resize(height=10, width=7).apply(ramp, NONE, None)

    across = (np.arange(7) + 0.5) * size[1] / 7 - 0.5
    down = (np.arange(10) + 0.5) * size[0] / 10 - 0.5
    np.testing.assert_allclose(made[2:-2, 1:-1, 0], np.broadcast_to(across[1:-1], (6, 5)), atol=0.2)
    np.testing.assert_allclose(made[2:-2, 1:-1, 1], np.broadcast_to(down[2:-2, None], (6, 5)), atol=0.2)


def test_zooming_out_by_much_is_antialiased():
    checks = (np.indices((96, 96)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None]
    step = RandomZoom(zoom=(0.24, 0.24))

    zoomed = step.apply(checks, draws_of(step), None)

    assert np.ptp(zoomed[40:56, 40:56].astype(int)) <= 2


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32"])
def test_the_nearest_pixel_is_taken_of_what_is_no_picture(dtype):
    labels = (np.arange(64) % 7).reshape(8, 8, 1).astype(dtype)
    step = Resize(height=4, width=4, interpolation="nearest")

    assert step.declare({"image": FieldSpec.of(labels)})["image"].dtype == dtype
    assert np.array_equal(
        step.apply(labels, NONE, None),
        cv2.resize(labels.astype("u1"), (4, 4), interpolation=6)[..., None].astype(dtype),
    )


# -- in a dataset -------------------------------------------------------------------------------------------


def all_steps(dataset):
    dataset = dataset.random_resized_crop(24, 20).random_flip().random_rotate(30).random_shift(0.1, 2).pad_image(1)
    dataset = dataset.random_shear(10, 5).random_zoom(0.3).random_perspective(0.2).random_elastic(8, 3)
    return dataset.random_crop(20, 20).shuffle(seed=3).batch(6)


def test_rows_made_alone_equal_rows_made_together():
    dataset = all_steps(Dataset.from_arrays(image=np.stack([smooth(40, 40, seed=k).astype("u1") for k in range(12)])))

    together = dataset.compute(1)["image"]

    for row in range(6):
        out = dataset.plan.empty_rows(1)
        dataset.plan.fill(1, row, row + 1, out)
        assert np.array_equal(out["image"][0], together[row])


def test_the_same_picture_is_another_one_at_each_position_and_in_each_epoch():
    batches = all_steps(Dataset.from_arrays(image=np.stack([smooth(40, 40).astype("u1")] * 12)))

    rows = np.concatenate([batches.compute(n)["image"] for n in range(4)])

    assert len(np.unique(rows, axis=0)) == 24


def test_steps_are_the_same_in_a_file_where_a_range_may_be_one_number():
    dataset = all_steps(Dataset.from_image_folder("photos"))
    plain = {**dataset.to_dict(), "source": {"kind": "image_folder", "path": "photos"}}
    short = [{"kind": "random_rotate", "degrees": 20}, {"kind": "random_zoom", "zoom": 0.2, "per_axis": True}]
    short += [{"kind": "random_shift", "horizontal": 0.1}, {"kind": "pad_image", "padding": [1, 2]}]
    file = {"datasets": {"long": plain, "short": {**plain, "transforms": short}}}

    jsonschema.validate(json.loads(json.dumps(file)), json_schema())

    assert Declaration.from_plain(plain).transforms == dataset.declaration.transforms
    assert Declaration.from_plain({**plain, "transforms": short}).transforms[0].degrees == (-20, 20)


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, options, told",
    [
        ("random_rotate", {"degrees": (20, -20)}, r"degrees: \(20.0, -20.0\) is no range: expected one number of at l"),
        ("random_rotate", {"degrees": -20}, r"degrees: \(20.0, -20.0\) is no range"),
        ("random_rotate", {"degrees": "left"}, "degrees: expected a list, got"),
        (
            "random_rotate",
            {"degrees": 9, "probability": 2},
            "probability: input should be less than or equal to 1, got",
        ),
        (
            "random_rotate",
            {"degrees": 9, "fill_mode": "refelct"},
            "fill_mode: expected a fill mode, 'nearest', 'constant', 'reflect' or 'wrap'; 'reflect' is nearest, got",
        ),
        ("random_rotate", {"degrees": 9, "interpolation": "area"}, "interpolation: input should be 'nearest', 'bili"),
        ("random_shear", {"horizontal": 90}, r"horizontal: \(-90.0, 90.0\) degrees: expected less than 90, at which"),
        ("random_zoom", {"zoom": 1.5}, "zoom: expected a number of at least 0 and below 1, or two: the least and"),
        ("random_zoom", {"zoom": (0, 2)}, r"zoom: \(0.0, 2.0\) is no range of factors: expected more than 0"),
        ("random_zoom", {"zoom": (2, 1)}, r"zoom: \(2.0, 1.0\) is no range"),
        ("random_perspective", {"distortion": 1}, "distortion: input should be less than 1"),
        ("random_elastic", {"sigma": 0}, "sigma: input should be greater than or equal to 0.5"),
        ("pad_image", {}, "expected either padding, or height and width"),
        ("pad_image", {"padding": 3, "height": 5}, "expected either padding, or height and width"),
        ("pad_image", {"padding": -3}, "padding.* input should be greater than or equal to 0"),
        ("resize", {"height": 3, "width": 3, "interpolation": "bicubic"}, "interpolation: input should be 'nearest', "),
    ],
)
def test_a_wrong_argument_is_refused_by_name_when_it_is_declared(method, options, told):
    dataset = Dataset.from_arrays(image=np.zeros((3, 8, 8, 3)))

    with pytest.raises(DatasetError, match=f"^{method}: .*{told}"):
        getattr(dataset, method)(**options)


def test_more_than_once_around_warns():
    with pytest.warns(DatasetWarning, match="random_rotate: degrees=400 is more than a whole turn"):
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3))).random_rotate(400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Dataset.from_arrays(image=np.zeros((3, 8, 8, 3))).random_rotate(360)


@pytest.mark.parametrize("step", [*WARPS, PadImage(padding=1)], ids=lambda step: step.kind)
def test_a_field_of_the_wrong_rank_or_dtype_is_refused(step):
    with pytest.raises(
        DatasetError, match=r"'image' is uint8 \(4, 4\), expected a picture \(height, width, channels\)"
    ):
        step.declare({"image": FieldSpec((4, 4), "uint8")})
    with pytest.raises(DatasetError, match=r"field 'image' is uint64 .*: cast it first"):
        step.declare({"image": FieldSpec((4, 4, 3), "uint64")})
