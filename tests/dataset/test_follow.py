"""What follows a picture stays where it belongs: found again in the picture after any geometry."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.fusing import Group, Run
from loader_service.dataset.transforms.geometry.affine import RandomRotate, RandomShear, RandomShift, RandomZoom
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.elastic import RandomElastic
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.opencv import DTYPES
from loader_service.dataset.transforms.geometry.pad_image import PadImage
from loader_service.dataset.transforms.geometry.perspective import RandomPerspective
from loader_service.dataset.transforms.geometry.resize import RandomResizedCrop, Resize
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec
from tests.dataset.test_geometry import smooth

SIZE = (64, 72)
REACH = 2.5  # pixels, the deviation of a blob
BLACK = {"fill_mode": "constant"}
steps_ = st.sampled_from(
    [
        RandomRotate(degrees=180, **BLACK),
        RandomShift(horizontal=0.2, vertical=9, **BLACK),
        RandomShear(horizontal=20, vertical=15, **BLACK),
        RandomZoom(zoom=(0.7, 1.3), per_axis=True, **BLACK),
        RandomPerspective(distortion=0.25, **BLACK),
        RandomElastic(alpha=40, sigma=9, **BLACK),
        RandomFlip(vertical=0.5),
        RandomCrop(height=50, width=50),
        RandomResizedCrop(height=64, width=80, scale=(0.6, 1)),
        Resize(height=70, width=58),
        PadImage(padding=(3, 7)),
    ]
)


def run_of(steps, **follows):
    follow = Follow(**follows)
    return Run(Group("image", (follow,)), steps)


def draws_of(steps, seed):
    return [uniforms(seed + k, np.arange(1), step.draws)[0].tolist() for k, step in enumerate(steps)]


def blob(x, y, size=SIZE):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * REACH**2)).astype(np.float32)


def centre_of(picture):
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()


def fused_or_not(steps, **follows):
    """Yield the steps as they may run: at once where one bend and no padding allow it, and one by one."""
    if sum(step.bends for step in steps) <= 1 and not any(step.alone for step in steps):
        yield [run_of(steps, **follows)]
    yield [run_of([step], **follows) for step in steps]


def never_near_an_edge(steps, draws, points):
    """Return whether each point stays so far inside the picture that no part of its spot is ever lost."""
    sample, inside = {"image": np.zeros((*SIZE, 1), np.uint8), "points": np.array(points)}, np.ones(len(points), bool)
    for step, numbers in zip(steps, draws, strict=True):
        sample = run_of([step], points=("points",)).apply(sample, [numbers], {})
        far = np.array(sample["image"].shape[1::-1]) - 15
        inside &= np.all((sample["points"] > 14) & (sample["points"] < far), axis=1)
    return inside


@given(
    st.lists(st.tuples(st.floats(8, 63), st.floats(8, 55)), min_size=1, max_size=4),
    st.lists(steps_, min_size=1, max_size=4),
    st.integers(0, 2**30),
)
@settings(max_examples=60, deadline=None)
def test_points_are_found_again_in_the_picture_of_them(points, steps, seed):
    """Each point is a spot in a channel of its own; where the spot is after any steps, there must its point be."""
    height, width = SIZE
    for step in steps:  # what is too small to be cut is enlarged first
        if isinstance(step, RandomCrop) and min(height, width) < 50:
            return
        height, width = step.declare({"image": FieldSpec((height, width, 1), "float32")})["image"].shape[:2]
    picture = np.stack([blob(*point) for point in points], -1)
    around = np.array(
        [(x - 2 * REACH + 0.5, y - 2 * REACH + 0.5, x + 2 * REACH + 0.5, y + 2 * REACH + 0.5) for x, y in points]
    )
    mask = (picture > 0.5).astype(np.uint8)
    uneven = any(isinstance(step, RandomPerspective | RandomElastic) for step in steps)  # spots are no longer round
    names = {"points": ("points",), "boxes": ("boxes",), "masks": ("mask",)}

    whole = never_near_an_edge(steps, draws_of(steps, seed), points)

    for runs in fused_or_not(steps, **names, outside="keep"):
        sample = {"image": picture, "points": np.array(points, np.float32), "boxes": around, "mask": mask}
        draws = draws_of(steps, seed)
        for run in runs:
            sample = run.apply(sample, [draws.pop(0) for _ in run.steps], {})

        image, moved, boxes = sample["image"], sample["points"], sample["boxes"]
        assert image.shape[:2] == sample["mask"].shape[:2] == (height, width)
        for k, (x, y) in enumerate(moved):
            if not whole[k]:
                continue  # a part of the spot may have left the picture, for good or for a while
            np.testing.assert_allclose(centre_of(image[..., k]), (x, y), atol=0.9 if uneven else 0.25)
            nearest = 0.3 + 0.5 * len(runs)  # each warp rounds places to pixels
            found = centre_of(sample["mask"][..., k].astype(float))
            np.testing.assert_allclose(found, (x, y), atol=nearest + 0.9 * uneven)
            x1, y1, x2, y2 = boxes[k]
            lit = image[..., k] > image[..., k].max() * 0.5
            rows, columns = np.nonzero(lit)
            assert x1 - 0.5 <= columns.min() and columns.max() + 1 <= x2 + 0.5
            assert y1 - 0.5 <= rows.min() and rows.max() + 1 <= y2 + 0.5


@pytest.mark.parametrize(
    "steps",
    [
        [RandomRotate(degrees=180)],
        [RandomShift(horizontal=6, vertical=6)],
        [RandomZoom(zoom=(0.8, 1.5))],
        [RandomFlip(), RandomResizedCrop(height=60, width=90, scale=(0.7, 1))],
        [RandomElastic(alpha=30, sigma=6)],
    ],
    ids=lambda steps: steps[-1].kind,
)
def test_masks_lie_where_their_picture_lies_without_a_half_of_a_pixel_between(steps):
    """A mask is rounded to pixels, so one alone says little; on average, nothing may be left of that."""
    x, y = 37, 30
    spot = blob(x, y)
    run, off = run_of(steps, masks=("mask",)), []
    for seed in range(150):
        sample = {"image": spot[..., None], "mask": (spot > 0.3).astype(np.uint8)}
        made = run.apply(sample, draws_of(steps, seed * 100), {})
        if made["image"].max() > 0.5:
            off.append(centre_of(made["mask"].astype(float)) - centre_of(made["image"][..., 0]))

    assert len(off) > 100
    assert np.abs(np.mean(off, axis=0)).max() < 0.1


def test_a_mask_takes_the_nearest_pixel_and_the_second_picture_what_the_first_takes():
    picture = smooth(40, 40).astype(np.uint8)
    labels = np.kron(np.arange(16).reshape(4, 4) * 16, np.ones((10, 10))).astype(np.uint8)
    steps = [
        RandomRotate(degrees=(20, 20), fill_mode="constant", fill_value=9),
        RandomZoom(zoom=(1.2, 1.2), fill_mode="constant", fill_value=9),
    ]
    sample = {"image": picture, "other": picture[..., :1].copy(), "mask": labels}

    run = run_of(steps, pictures=("other",), masks=("mask",), mask_value=255)
    made = run.apply(sample, draws_of(steps, 0), {})

    assert np.array_equal(made["other"][..., 0], made["image"][..., 0])
    assert set(np.unique(made["mask"])) <= {*np.unique(labels), 255}
    assert (made["mask"] == 255).any()


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1), (32, 32, 3)])
def test_masks_have_any_of_these_dtypes_with_channels_or_without(dtype, shape):
    mask = (np.arange(32 * 32).reshape(32, 32) // 100 % 2).astype(dtype)
    mask = mask if len(shape) == 2 else np.repeat(mask[..., None], shape[2], 2)
    steps = [RandomFlip(horizontal=1), RandomResizedCrop(height=16, width=16), RandomRotate(degrees=9)]
    group = Group("image", (Follow(masks=("mask",)),))
    spec = {"image": FieldSpec((32, 32, 3), "uint8"), "mask": FieldSpec.of(mask)}
    for step in steps:
        spec = group.declare(step, spec)
    rows = {name: np.zeros(field.shape, field.dtype) for name, field in spec.items()}

    for count in (1, 2, 3):
        sample = Run(group, steps[:count]).apply(
            {"image": smooth(32, 32).astype("u1"), "mask": mask}, draws_of(steps[:count], 1), rows if count == 3 else {}
        )

    assert FieldSpec.of(sample["mask"]) == spec["mask"] == FieldSpec((16, 16, *shape[2:]), dtype)
    assert np.array_equal(rows["mask"], sample["mask"])


# -- boxes --------------------------------------------------------------------------------------------------


def moved_boxes(boxes, *steps, **options):
    run = run_of(steps, boxes=("boxes",), **options)
    sample = {"image": np.zeros((20, 30, 3), np.uint8), "boxes": np.array(boxes)}
    return run.apply(sample, draws_of(steps, 0), {})["boxes"]


def test_the_box_of_the_whole_picture_stays_that_of_the_whole_picture():
    whole = [(0.0, 0.0, 30.0, 20.0)]

    def moved(step):
        return pytest.approx(moved_boxes(whole, step)[0])

    assert moved(RandomFlip(horizontal=1, vertical=1)) == [0, 0, 30, 20]
    assert moved(Resize(height=7, width=60)) == [0, 0, 60, 7]
    assert moved(RandomResizedCrop(height=9, width=9)) == [0, 0, 9, 9]
    assert moved(PadImage(padding=(1, 2))) == [2, 1, 32, 21]


def test_boxes_are_cut_off_at_the_edges_and_those_that_have_left_are_zeros():
    boxes = [(0.0, 5.0, 20.0, 15.0), (25.0, 0.0, 30.0, 5.0), (11.0, 6.0, 12.0, 7.0)]
    crop = CenterCrop(height=10, width=10)  # of x from 10 to 20, of y from 5 to 15

    assert moved_boxes(boxes, crop).tolist() == [[0, 0, 10, 10], [0, 0, 0, 0], [1, 1, 2, 2]]
    assert moved_boxes(boxes, crop, visible=0.6)[0].tolist() == [0, 0, 0, 0]
    assert moved_boxes(boxes, crop, visible=0.5)[0].tolist() == [0, 0, 10, 10]
    assert moved_boxes(boxes, crop, outside="keep").tolist() == [[-10, 0, 10, 10], [15, -5, 20, 0], [1, 1, 2, 2]]


def test_a_box_without_area_is_padding_and_stays_as_it_is():
    assert moved_boxes([(-1, -1, -1, -1), (0, 0, 3, 3)], RandomFlip(horizontal=1)).tolist() == [
        [-1] * 4,
        [27, 0, 30, 3],
    ]
    assert moved_boxes(np.zeros((0, 4)), RandomFlip(horizontal=1)).shape == (0, 4)


def test_whole_numbers_stay_whole_numbers():
    boxes = moved_boxes(np.array([(1, 1, 3, 4)], np.int32), Resize(height=30, width=20))

    assert boxes.dtype == np.int32
    assert boxes.tolist() == [[1, 2, 2, 6]]


@pytest.mark.parametrize(
    "box, told",
    [
        (
            (3, 3, 2, 5),
            r"box 1 of 'boxes' is \[3, 3, 2, 5\], whose second corner lies before the first: expected x1 y1",
        ),
        (
            (40, 3, 50, 5),
            r"box 1 of 'boxes' is \[40, 3, 50, 5\], outside of its picture of 20 x 30 pixels: expected x1",
        ),
    ],
)
def test_a_box_that_is_none_is_named(box, told):
    with pytest.raises(DatasetError, match=told):
        moved_boxes([(0, 0, 5, 5), box], RandomFlip(horizontal=1))


# -- in a dataset -------------------------------------------------------------------------------------------


def scenes(count=6):
    rng = np.random.default_rng(0)
    images, masks, boxes = [], [], []
    for _ in range(count):
        left, top = rng.integers(4, 30, 2)
        image = np.zeros((48, 48, 3), np.uint8)
        image[top : top + 12, left : left + 12] = 200
        images.append(image)
        masks.append((image[..., :1] > 0).astype(np.uint8))
        found = [(left, top, left + 12, top + 12)] * int(rng.integers(1, 4))
        boxes.append(np.array(found, np.float32))
    return Dataset.from_arrays(image=np.stack(images), mask=np.stack(masks), boxes=boxes, label=np.arange(count))


def test_one_draw_moves_all_that_follow_and_boxes_may_differ_in_number():
    dataset = scenes().follow(masks="mask", boxes="boxes").random_resized_crop(40, 40, scale=(0.7, 1)).random_flip()
    dataset = dataset.random_rotate(15, fill_mode="constant").pad("boxes").shuffle(seed=3).batch(6)

    batch = dataset.compute(1)  # no square loses the corner that its box goes by

    assert batch["image"].shape == (6, 40, 40, 3) and batch["mask"].shape == (6, 40, 40, 1)
    for image, mask, boxes in zip(batch["image"], batch["mask"][..., 0], batch["boxes"], strict=True):
        bright = image[..., 0] > 100
        assert (bright != (mask > 0)).mean() < 0.02
        rows, columns = np.nonzero(mask)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(boxes[0], found, atol=1.5)
    for row in range(6):
        out = dataset.plan.empty_rows(1)
        dataset.plan.fill(1, row, row + 1, out)
        assert np.array_equal(out["mask"][0], batch["mask"][row])


def test_a_cache_keeps_what_follows_as_well(tmp_path):
    def dataset(cached):
        made = scenes().follow(masks="mask", boxes="boxes").resize(40, 44).pad_image(2)
        made = made.cache(path=tmp_path) if cached else made
        return made.random_crop(32, 32).random_rotate(9).pad("boxes").batch(3)

    plain = dataset(False).compute(3)

    for _ in range(2):  # it is written to first, and read from then
        kept = dataset(True).compute(3)
        assert all(np.array_equal(kept[name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    "step",
    [RandomPerspective(), RandomElastic(), RandomZoom(zoom=0.3), PadImage(padding=1)],
    ids=lambda step: step.kind,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_any_dtype_take_part_in_every_step(step, dtype):
    mask = np.arange(20 * 20).reshape(20, 20).astype(dtype)
    sample = {"image": np.zeros((20, 20, 1), np.uint8), "mask": mask}

    made = run_of([step], masks=("mask",)).apply(sample, draws_of([step], 0), {})["mask"]

    assert made.dtype == dtype
    assert set(made.ravel().tolist()) <= set(mask.ravel().tolist())


@pytest.mark.parametrize(
    "step",
    [RandomRotate(degrees=9), RandomPerspective(), RandomElastic(), RandomZoom(zoom=0.3)],
    ids=lambda step: step.kind,
)
def test_a_picture_of_one_pixel_keeps_what_follows(step):
    sample = {
        "image": np.full((1, 1, 3), 7, np.uint8),
        "mask": np.ones((1, 1), bool),
        "boxes": np.array([(0.0, 0, 1, 1)]),
    }

    made = run_of([step], masks=("mask",), boxes=("boxes",)).apply(sample, draws_of([step], 3), {})

    assert (made["image"] == 7).all() and made["mask"].all()
    assert made["boxes"].shape == (1, 4)


def test_followers_are_written_into_their_rows_and_other_fields_stay_columns():
    dataset = scenes().follow(masks="mask").random_rotate(15).random_crop(40, 40).ragged("boxes").batch(3)

    (chain,) = dataset.explain().plain["chains"]

    assert "label" in chain["many_rows"] and "mask" not in chain["many_rows"]
    assert [(step["fused"], step["into_row"]) for step in chain["steps"][1:]] == [([1, 2], True)] * 2
    assert chain["steps"][2]["row"]["mask"]["shape"] == [40, 40, 1]


def test_a_file_may_tell_what_follows():
    plain = scenes().follow(masks=["mask"], boxes="boxes", visible=0.3).random_flip().pad("boxes").batch(2).to_dict()

    assert plain["transforms"][0]["masks"] == ["mask"]
    assert Dataset.from_dict(plain, scenes().tables).key == Dataset.from_dict(plain, scenes().tables).key


@pytest.mark.parametrize(
    "follows, told",
    [
        ({"masks": "mask", "image": "picture"}, r"there is no field 'picture'; the sample has \['image', 'mask'"),
        ({"masks": "msak"}, "there is no field 'msak'"),
        ({"masks": "label"}, r"field 'label' is int64 \(\), expected \(height, width\), or with channels"),
        ({"image": "label", "masks": "mask"}, r"field 'label' is int64 \(\), expected a picture \(height, width, chan"),
        ({"boxes": "label"}, r"field 'label' is int64 \(\), expected \(n, x1 y1 x2 y2\): an axis of any size, and one"),
        (
            {"points": "boxes"},
            r"field 'boxes' is float32 \(None, 4\), expected \(n, x y\): an axis of any size, and on",
        ),
    ],
)
def test_what_cannot_follow_is_refused_when_the_dataset_is_opened(follows, told):
    with pytest.raises(DatasetError, match=f"follow: {told}"):
        _ = scenes().follow(**follows).ragged("boxes").batch(2).spec


@pytest.mark.parametrize(
    "follows, told",
    [
        ({}, "expected the fields that follow: pictures, masks, boxes or points"),
        ({"masks": ["mask", "mask"]}, "field 'mask' is named twice"),
        ({"pictures": "image"}, "field 'image' is named twice"),
        ({"masks": "mask", "outside": "crop"}, "outside: input should be 'clip' or 'keep'"),
        ({"masks": "mask", "visible": 2}, "visible: input should be less than or equal to 1"),
    ],
)
def test_what_is_no_declaration_of_followers_is_refused_at_once(follows, told):
    with pytest.raises(DatasetError, match=f"follow: {told}"):
        scenes().follow(**follows)


def test_a_mask_of_another_size_than_its_picture_is_named(user_module):
    arrays = Dataset.from_arrays(image=np.zeros((3, 20, 30, 3), "u1"), mask=np.zeros((3, 10, 15, 1), "u1"))
    module = user_module(
        "import numpy as np\n"
        "def cut(sample):\n"
        "    last = sample['label'] == 2\n"
        "    return {**sample, 'mask': sample['mask'][:10] if last else sample['mask']}\n"
    )
    images = np.zeros((3, 20, 30, 3), "u1")
    one_is_odd = Dataset.from_arrays(image=images, mask=images[..., :1].copy(), label=np.arange(3)).map(f"{module}:cut")

    with pytest.raises(
        DatasetError, match=r"follow: mask 'mask' is 10 x 15 pixels, 'image' 20 x 30: expected one size"
    ):
        _ = arrays.follow(masks="mask").random_flip().batch(1).spec
    with pytest.raises(SampleError, match=r"sample 2 .*: follow: mask 'mask' is 10 x 30 pixels, 'image' 20 x 30"):
        one_is_odd.follow(masks="mask").random_flip().batch(3).compute(0)


def test_a_point_goes_where_opencv_draws_it():
    picture = np.zeros((40, 50, 1), np.uint8)
    cv2.circle(picture, (30, 12), 0, 255, -1)
    steps = [RandomFlip(horizontal=1), Resize(height=120, width=150, interpolation="nearest"), RandomFlip(vertical=1)]

    made = run_of(steps, points=("points",)).apply(
        {"image": picture, "points": np.array([(30.0, 12.0)])}, draws_of(steps, 0), {}
    )

    np.testing.assert_allclose(centre_of(made["image"][..., 0].astype(float)), made["points"][0])
