"""A run of geometric steps is one warp: held against the same steps, done one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import DrawKeys, uniforms
from loader_service.dataset.fusing import RULES, Group, Run
from loader_service.dataset.transforms.geometry.affine import RandomRotate, RandomShear, RandomShift, RandomZoom
from loader_service.dataset.transforms.geometry.crops import CenterCrop, RandomCrop
from loader_service.dataset.transforms.geometry.elastic import RandomElastic
from loader_service.dataset.transforms.geometry.flip import RandomFlip
from loader_service.dataset.transforms.geometry.follow import Follow
from loader_service.dataset.transforms.geometry.pad_image import PadImage
from loader_service.dataset.transforms.geometry.perspective import RandomPerspective
from loader_service.dataset.transforms.geometry.resize import RandomResizedCrop, Resize
from loader_service.dataset.transforms.values import Rescale
from loader_service.dataset.units import fused, groups_of, singly
from tests.dataset.test_geometry import smooth

SIZE = (48, 56)
GROUP = Group("image")
crops = st.builds(RandomCrop, height=st.integers(20, 40), width=st.integers(20, 40))
flips = st.builds(RandomFlip, horizontal=st.sampled_from([0, 0.5, 1]), vertical=st.sampled_from([0, 0.5, 1]))
boxes = st.builds(RandomResizedCrop, height=st.integers(30, 60), width=st.integers(30, 60), scale=st.just((0.5, 1)))
warps = st.sampled_from(
    [
        RandomRotate(degrees=25),
        RandomShift(horizontal=0.2, vertical=5),
        RandomShear(horizontal=15, vertical=10),
        RandomZoom(zoom=(0.8, 1.4), per_axis=True),
        RandomPerspective(distortion=0.3),
        RandomElastic(alpha=15, sigma=6),
        RandomRotate(degrees=180, probability=0.5),
    ]
)
seeds = st.integers(0, 2**30)


def drawn(steps, seed):
    return [uniforms(seed + k, np.arange(1), step.draws)[0] for k, step in enumerate(steps)]


def one_by_one(steps, value, draws):
    for step, numbers in zip(steps, draws, strict=True):
        value = step.apply(value, numbers, None)
    return value


def fits(steps, height, width):
    """Leave out crops that are larger than what they would be cut from."""
    kept = []
    for step in steps:
        if isinstance(step, RandomCrop):
            step = step.model_copy(update={"height": min(step.height, height), "width": min(step.width, width)})
        if hasattr(step, "height"):
            height, width = step.height, step.width
        kept.append(step)
    return kept


def runs_of(*steps):
    return [unit.numbers for unit in fused(steps, groups_of(steps))]


@given(st.lists(crops | flips, min_size=1, max_size=6), seeds)
@settings(max_examples=40)
def test_crops_and_flips_at_once_are_exactly_those_one_by_one(steps, seed):
    steps, value = fits(steps, *SIZE), smooth(*SIZE).astype(np.uint8)
    draws = drawn(steps, seed)

    at_once = Run(GROUP, steps).draw(value, draws, None)

    assert np.array_equal(at_once, one_by_one(steps, value, draws))


@given(st.lists(crops | flips, max_size=3), boxes, st.lists(crops | flips, max_size=3), seeds)
@settings(max_examples=40)
def test_with_one_resize_among_them_they_differ_by_rounding(before, box, after, seed):
    steps, value = fits([*before, box, *after], *SIZE), smooth(*SIZE).astype(np.uint8)
    draws = drawn(steps, seed)
    run = Run(GROUP, steps)

    at_once = run.draw(value, draws, None)

    assert run.place(*SIZE, draws).matrix is None, "no warp is needed"
    np.testing.assert_allclose(at_once, one_by_one(steps, value, draws).astype(int), atol=1)


@given(st.lists(crops | flips | boxes | warps, min_size=2, max_size=5), seeds)
@settings(max_examples=80)
def test_any_run_shows_what_its_steps_show_one_by_one(steps, seed):
    """Where these look inside of the picture, always. Of the outside, a run sees the source, not the edges in between.

    Interpolating once, and not each time, makes it sharper: by 15 of 255 anywhere, and 3 on average.
    """
    steps, bends = fits(steps, *SIZE), 0
    for step in list(steps):
        bends += step.bends
        if step.bends and bends > 1:
            steps.remove(step)
    draws, value = drawn(steps, seed), smooth(*SIZE)
    black = [step.model_copy(update={"fill_mode": "constant"}) if step.filling else step for step in steps]
    inside = one_by_one(black, np.ones((*SIZE, 1), np.float32), draws)[..., 0] > 0.9999
    if min(SIZE) > 3:
        inside &= one_by_one(black, _without_rim(SIZE), draws)[..., 0] > 0.9999  # where cubic errors of edges are not

    at_once = Run(GROUP, steps).draw(value, draws, None)

    plain = one_by_one(steps, value, draws)
    assert at_once.shape == plain.shape
    if inside.any():
        np.testing.assert_allclose(at_once[inside], plain[inside], atol=15)
        assert np.abs(at_once[inside] - plain[inside]).mean() < 3


def _without_rim(size):
    made = np.zeros((*size, 1), np.float32)
    made[1:-1, 1:-1] = 1
    return made


@given(st.lists(crops | flips, min_size=1, max_size=3), warps, seeds)
@settings(max_examples=30)
def test_a_warp_behind_crops_sees_the_edges_of_the_crop(before, warp, seed):
    steps, value = fits([*before, warp], *SIZE), smooth(*SIZE)
    draws = drawn(steps, seed)

    at_once = Run(GROUP, steps).draw(value, draws, None)

    if not any(isinstance(step, RandomFlip) for step in steps) and not warp.bends:
        assert np.array_equal(at_once, one_by_one(steps, value, draws))
    np.testing.assert_allclose(at_once, one_by_one(steps, value, draws), atol=0.5)


def test_what_a_step_pushes_out_of_the_picture_a_later_one_brings_back():
    """The one thing in which a run is not what its steps are: it loses less."""
    value = smooth(20, 20).astype(np.uint8)
    there, back = (
        RandomShift(horizontal=(8, 8), fill_mode="constant"),
        RandomShift(horizontal=(-8, -8), fill_mode="constant"),
    )
    draws = drawn([there, back], 0)

    assert np.array_equal(Run(GROUP, [there, back]).draw(value, draws, None), value)
    assert (one_by_one([there, back], value, draws)[:, 12:] == 0).all()


def test_two_scales_are_one():
    steps = [RandomResizedCrop(height=80, width=70), RandomFlip(), Resize(height=33, width=30)]
    draws = drawn(steps, 5)

    place = Run(GROUP, steps).place(48, 56, draws)

    assert (place.matrix, place.scale) == (None, (33, 30))


# -- the rules ----------------------------------------------------------------------------------------------

ROTATE, FLIP, CROP = RandomRotate(degrees=9), RandomFlip(), RandomCrop(height=9, width=9)
BREAKS = {
    "padding sees the edges of what comes before": [(ROTATE, PadImage(padding=1)), (PadImage(padding=1), ROTATE)],
    "one interpolation": [
        (ROTATE, RandomRotate(degrees=9, interpolation="cubic")),
        (RandomResizedCrop(height=9, width=9, antialias=False), ROTATE),
    ],
    "area interpolation resizes, and warps nothing": [
        (RandomResizedCrop(height=9, width=9, interpolation="area"), Resize(height=5, width=5, interpolation="area")),
        (RandomResizedCrop(height=9, width=9, interpolation="area"), ROTATE),
    ],
    "one fill mode": [
        (ROTATE, RandomRotate(degrees=9, fill_mode="wrap")),
        (
            RandomShift(horizontal=1, fill_mode="constant"),
            RandomShift(horizontal=1, fill_mode="constant", fill_value=3),
        ),
    ],
    "one bend": [(RandomElastic(), RandomElastic())],
}


def test_each_rule_has_steps_that_it_keeps_apart():
    assert set(BREAKS) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_keeps_steps_apart_that_would_be_another_thing_together(rule):
    for before, after in BREAKS[rule.name]:
        assert before.alone or rule.joins([before], FLIP)
        assert not rule.joins([before], after)
        assert not rule.joins([before, FLIP], after)
        assert runs_of(FLIP, before, after)[-1] == (2,)


RESIZE, CENTER = Resize(height=20, width=20), CenterCrop(height=15, width=15)


def test_steps_are_fused_from_the_first_random_one_on():
    """A cache may stand behind those before, and must change nothing."""
    assert runs_of(RESIZE, Resize(height=18, width=18), ROTATE, FLIP) == [(0,), (1,), (2, 3)]
    assert runs_of(RESIZE, PadImage(padding=2), CROP, FLIP) == [(0,), (1,), (2, 3)]
    assert runs_of(FLIP, RESIZE, CENTER) == [(0, 1, 2)]


def test_what_only_picks_pixels_is_fused_with_what_makes_them():
    """It changes none. But crops and flips that a warp follows are one with that, and stay so."""
    assert runs_of(RESIZE, CENTER) == runs_of(CENTER, CENTER) == [(0, 1)]
    assert runs_of(RESIZE, CENTER, CROP, FLIP) == [(0, 1, 2, 3)]
    assert runs_of(CENTER, RESIZE, CROP) == [(0,), (1, 2)]
    assert runs_of(RESIZE, CENTER, CROP, FLIP, ROTATE) == [(0, 1), (2, 3, 4)]
    assert runs_of(RESIZE, Rescale(scale=2), CROP) == [(0,), (1,), (2,)]


@pytest.mark.parametrize("follow", [{"boxes": ["boxes"]}, {"points": ["points"]}])
def test_boxes_and_points_would_differ_by_rounding_and_masks_do_not(follow):
    assert runs_of(Follow(image="image", masks=["mask"]), RESIZE, CROP) == [(1, 2)]
    assert runs_of(Follow(image="image", **follow), RESIZE, CROP) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("kept", "runs"), [(0, [(0, 1, 2)]), (1, [(0,), (1, 2)]), (2, [(0, 1), (2,)]), (3, [(0, 1, 2)])]
)
def test_a_cache_keeps_apart_what_is_done_before_it(kept, runs):
    steps = (RESIZE, CENTER, FLIP)

    assert [unit.numbers for unit in fused(steps, groups_of(steps), kept=kept)] == runs


def test_a_picture_that_may_be_decoded_smaller_is_scaled_by_itself():
    steps = (RESIZE, CENTER, FLIP)

    assert [unit.numbers for unit in fused(steps, groups_of(steps), shrunk={"image"})] == [(0,), (1,), (2,)]


@given(
    st.sampled_from(["nearest", "bilinear", "area", "cubic", "lanczos"]),
    st.booleans(),
    st.sampled_from([np.uint8, np.float32, np.uint16]),
    st.tuples(*[st.integers(15, 70)] * 2),
    st.lists(crops | flips | st.just(CENTER), min_size=1, max_size=4),
    seeds,
)
@settings(max_examples=100)
def test_picked_pixels_are_exactly_those_that_were_made(interpolation, antialias, dtype, size, picking, seed):
    resize = Resize(height=size[0], width=size[1], interpolation=interpolation, antialias=antialias)
    steps, value = fits([resize, *picking], *SIZE), smooth(*SIZE).astype(dtype)
    draws = drawn(steps, seed)
    (unit,) = fused(tuple(steps), groups_of(steps))

    at_once = unit.run.draw(value, draws, None)

    assert np.array_equal(at_once, one_by_one(steps, value, draws))


def test_steps_on_other_fields_are_no_hindrance_and_those_on_the_same_are():
    other = ROTATE.model_copy(update={"field": "other"})
    value, other_value = Rescale(scale=2), Rescale(scale=2, field="other")

    assert runs_of(ROTATE, other, FLIP, other_value, CROP) == [(0, 2, 4), (1,), (3,)]
    assert runs_of(ROTATE, value, FLIP, CROP) == [(0,), (1,), (2, 3)]


def test_units_make_of_a_sample_what_single_steps_make_of_it():
    steps = (FLIP, CROP, Rescale(scale=0.5), FLIP)
    groups = groups_of(steps)

    assert [unit.numbers for unit in singly(steps, groups)] == [(0,), (1,), (2,), (3,)]
    assert [unit.numbers for unit in fused(steps, groups)] == [(0, 1), (2,), (3,)]


# -- in a dataset -------------------------------------------------------------------------------------------


@pytest.fixture
def pictures():
    return np.stack([smooth(40, 44, seed=k).astype(np.uint8) for k in range(8)])


def test_a_run_draws_the_numbers_of_its_steps(pictures):
    """Each step has its number's, as if it stood alone: fusing changes no draw."""
    dataset = Dataset.from_arrays(image=pictures, y=np.arange(8)).resize(36, 36).random_flip()
    dataset = dataset.one_hot("y", 8).random_rotate(20).random_crop(30, 30).batch(4)
    steps = [RandomFlip(), RandomRotate(degrees=20), RandomCrop(height=30, width=30)]
    keys = DrawKeys(0)

    batch = dataset.compute(3)["image"]  # the second one of epoch 1

    for row, position in enumerate(range(4, 8)):
        draws = [
            uniforms(keys.of(1, number), np.array([position]), step.draws)[0]
            for number, step in zip((1, 3, 4), steps, strict=True)
        ]
        resized = Resize(height=36, width=36).apply(pictures[position], np.empty(0), None)
        assert np.array_equal(batch[row], Run(GROUP, steps).draw(resized, draws, None))


def test_a_cache_changes_nothing_wherever_it_stands(pictures, tmp_path):
    def dataset(after):
        made = Dataset.from_arrays(image=pictures)
        steps = [
            ("resize", 33, 35),
            ("pad_image", 2),
            ("center_crop", 31, 33),
            ("random_rotate", 20),
            ("random_crop", 20, 20),
        ]
        for number, (name, *sizes) in enumerate(steps):
            made = getattr(made, name)(*sizes)
            made = made.cache(path=tmp_path) if number == after else made
        return made.random_flip().batch(4)

    expected = dataset(None).compute(1)["image"]

    for after in range(3):
        assert np.array_equal(dataset(after).compute(1)["image"], expected)


def test_masks_are_cut_out_of_what_is_scaled_as_their_pictures_are(pictures, tmp_path):
    pairs = Dataset.from_arrays(image=pictures, mask=pictures[..., :1] // 64).follow(masks="mask").resize(50, 53)

    plain, cached = (
        each.center_crop(40, 44).random_crop(30, 20).random_flip(vertical=0.5).batch(8).compute(1)
        for each in (pairs, pairs.cache(path=tmp_path))
    )

    for field in ("image", "mask"):
        assert np.array_equal(plain[field], cached[field])


def test_a_run_writes_into_the_row_and_explain_tells_what_is_fused(pictures):
    dataset = Dataset.from_arrays(image=pictures).resize(32, 32).random_rotate(9).random_zoom(0.1).random_flip()
    told = dataset.batch(4).explain()

    (chain,) = told.plain["chains"]
    assert [step["fused"] for step in chain["steps"]] == [[], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert [step["into_row"] for step in chain["steps"]] == [False, True, True, True]
    assert "sample by sample; done at once with steps 3, 4; writes into the row; random" in str(told)


def test_flips_of_arrays_in_memory_still_take_many_rows_at_once(pictures):
    dataset = Dataset.from_arrays(image=pictures).random_flip().random_flip(horizontal=0, vertical=0.5).batch(8)

    (chain,) = dataset.explain().plain["chains"]
    assert [step["many_rows"] for step in chain["steps"]] == [True, True]
    draws = [uniforms(DrawKeys(0).of(0, number), np.arange(8), 2) for number in (0, 1)]
    for row, image in enumerate(dataset.compute(0)["image"]):
        rows = [draws[0][row], draws[1][row]]
        steps = [RandomFlip(), RandomFlip(horizontal=0, vertical=0.5)]
        assert np.array_equal(image, Run(GROUP, steps).draw(pictures[row], rows, None))
