"""Recordings changed at random: cut, noised, scaled, warped in time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.transforms.series import RandomJitter, RandomScale, RandomTimeWarp, RandomWindow, normals
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec

STEPS = [RandomWindow(length=1), RandomJitter(), RandomScale(), RandomScale(per_channel=False), RandomTimeWarp()]
METHODS = {
    "random_window": {"length": 5},
    "random_jitter": {},
    "random_scale": {},
    "random_time_warp": {"std": 0.5},
}


def made(step, value, position=0, key=1):
    if hasattr(step, "draws"):
        return step.apply(value, uniforms(key, np.array([position]), step.draws)[0], None)
    return step.apply({"x": value}, key, position)["x"]


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (2, 1), (3, 2), (50, 3), (20, 2, 2)])
def test_a_step_returns_what_it_declares_and_leaves_its_input_alone(step, dtype, shape):
    value = np.linspace(-1, 1, np.prod(shape)).reshape(shape).astype(dtype)
    before = value.copy()
    declared = step.declare({"x": FieldSpec.of(value)})["x"]

    found = made(step, value)

    assert FieldSpec.of(found) == declared
    assert np.isfinite(found).all()
    assert np.array_equal(value, before)


@pytest.mark.parametrize("step", [RandomJitter(), RandomScale()], ids=repr)
def test_a_step_that_writes_into_the_row_writes_the_same(step):
    value = np.linspace(-1, 1, 60, dtype="float32").reshape(20, 3)
    draws, row = uniforms(1, np.array([4]), 1)[0], np.full((20, 3), 99, "float32")

    alone = step.apply(value, draws, None)

    assert step.apply(value, draws, row) is row
    assert np.array_equal(row, alone)
    assert np.array_equal(step.apply(value, draws, value), alone)


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 500), st.integers(1, 9))
@settings(max_examples=8)
def test_rows_made_alone_are_those_made_together_and_neighbours_differ(method, n, rows):
    x = np.tile(np.linspace(-1, 1, 60).reshape(1, 30, 2), (12, 1, 1))
    dataset = getattr(Dataset.from_arrays(x=x), method)(**METHODS[method])
    together = dataset.batch(12).compute(n)["x"]

    alone = dataset.batch(rows)
    first = n * alone.batches_per_epoch
    parts = np.concatenate([alone.compute(first + k)["x"] for k in range(alone.batches_per_epoch)])

    assert np.array_equal(parts, together)
    assert len(np.unique(together.reshape(12, -1), axis=0)) >= (3 if method == "random_window" else 12)


@pytest.mark.parametrize("method", METHODS)
def test_recordings_of_different_lengths_are_taken(method):
    x = [np.ones((steps, 2), "float32") for steps in (7, 30, 12)]
    dataset = getattr(Dataset.from_arrays(x=x), method)(**METHODS[method])

    if method == "random_window":
        assert dataset.batch(3).compute(0)["x"].shape == (3, 5, 2)
    else:
        batch = dataset.pad("x", lengths="steps").batch(3).compute(0)
        assert batch["steps"].tolist() == [7, 30, 12]
        assert batch["x"].shape == (3, 30, 2)


# -- windows ------------------------------------------------------------------------------------------------


def test_a_window_is_a_part_and_every_place_comes_about_equally_often():
    value = np.arange(10)

    starts = []
    for position in range(6000):
        window = made(RandomWindow(length=5), value, position)
        starts.append(int(window[0]))
        assert np.array_equal(window, value[starts[-1] : starts[-1] + 5])

    places, counts = np.unique(starts, return_counts=True)
    assert places.tolist() == [0, 1, 2, 3, 4, 5]
    assert ((counts - 1000) ** 2 / 1000).sum() < 5 + 5 * 3.2


def test_several_fields_are_cut_at_one_place():
    x = np.arange(40 * 2).reshape(40, 2)
    dataset = Dataset.from_arrays(x=x[None].repeat(6, 0), y=x[None, :, 0].repeat(6, 0))

    batch = dataset.random_window(8, field=["x", "y"]).batch(6).compute(0)

    assert np.array_equal(batch["x"][..., 0], batch["y"])


def test_a_recording_shorter_than_the_window_is_named():
    dataset = Dataset.from_arrays(x=[np.zeros(9), np.zeros(3)]).random_window(5).batch(2)

    with pytest.raises(SampleError, match=r"sample 1 .*field 'x' has 3 steps, fewer than the window of 5"):
        dataset.compute(0)


@pytest.mark.parametrize("method", ["random_window", "random_time_warp"])
def test_fields_of_different_lengths_are_refused(method):
    dataset = Dataset.from_arrays(x=np.zeros((2, 9)), y=np.zeros((2, 8)))

    with pytest.raises(SampleError, match=f"{method}: field 'y' has 8 steps and field 'x' 9: expected alike"):
        getattr(dataset, method)(**METHODS[method], field=["x", "y"]).batch(2).compute(0)


# -- noise --------------------------------------------------------------------------------------------------


def test_normal_numbers_are_normal_and_one_draw_says_nothing_of_the_next():
    numbers = np.concatenate([normals(draw, 101) for draw in uniforms(1, np.arange(1000), 1)[:, 0].tolist()])
    reference = np.sort(np.random.default_rng(0).standard_normal(len(numbers)))

    found = np.sort(numbers)

    at = np.linspace(-4, 4, 400)
    shares = [np.searchsorted(each, at) / len(each) for each in (found, reference)]
    assert np.abs(shares[0] - shares[1]).max() < 1.95 * np.sqrt(2 / len(numbers))
    table = numbers.reshape(1000, 101)
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.015


@pytest.mark.parametrize("draw", [0.0, np.nextafter(1, 0)])
def test_normal_numbers_are_finite_at_both_ends_of_the_draws(draw):
    for dtype in ("float32", "float64"):
        assert np.isfinite(normals(draw, 1001, dtype)).all()
    assert len(normals(draw, 0)) == 0


def test_jitter_adds_noise_of_its_deviation():
    value = np.full((400, 250), 3, "float32")

    noise = made(RandomJitter(std=0.2), value) - value

    assert noise.std() == pytest.approx(0.2, rel=0.02)
    assert abs(noise.mean()) < 0.003
    assert np.array_equal(made(RandomJitter(std=0), value), value)


def test_scale_multiplies_each_channel_by_a_number_of_its_own():
    value = np.random.default_rng(0).random((50, 3)) + 1

    factors = np.array([made(RandomScale(std=0.1), value, position) / value for position in range(3000)])

    assert np.allclose(factors, factors[:, :1])
    assert factors[:, 0].std(axis=0) == pytest.approx([0.1] * 3, rel=0.06)
    assert factors[:, 0].mean(axis=0) == pytest.approx([1] * 3, abs=0.01)
    assert np.abs(np.corrcoef(factors[:, 0].T) - np.eye(3)).max() < 0.08


@pytest.mark.parametrize("value", [np.arange(1.0, 20), np.ones((5, 4))])
def test_scale_of_a_whole_recording_is_one_number(value):
    assert np.ptp(made(RandomScale(per_channel=False), value) / value) < 1e-12


# -- time ---------------------------------------------------------------------------------------------------


@given(st.integers(3, 300), st.floats(0, 3), st.integers(2, 20), st.integers(0, 10_000))
@settings(max_examples=60)
def test_warped_time_increases_from_the_first_step_to_the_last(steps, std, knots, position):
    times = RandomTimeWarp(std=std, knots=knots).times(steps, 3, position)

    assert times[0] == 0
    assert times[-1] == pytest.approx(steps - 1)
    assert (np.diff(times) > 0).all()


def test_a_warped_recording_is_the_recording_at_those_times():
    value = np.sin(np.linspace(0, 9, 80))[:, None] * [1, 5]
    step = RandomTimeWarp(std=0.4)

    warped = step.apply({"x": value}, 3, 7)["x"]

    times = step.times(80, 3, 7)
    for channel in range(2):
        np.testing.assert_allclose(warped[:, channel], np.interp(times, np.arange(80), value[:, channel]), atol=1e-12)
    assert np.abs(warped - value).max() > 0.1


def test_without_deviation_time_runs_as_it_did():
    value = np.random.default_rng(0).random((40, 2))

    np.testing.assert_allclose(made(RandomTimeWarp(std=0), value), value, atol=1e-12)


def test_labels_of_steps_are_warped_along_and_stay_labels():
    value = np.repeat([0.0, 10, 20, 30], 20)
    labels = np.repeat([3, 1, 4, 2], 20)
    step = RandomTimeWarp(std=0.5, field=("x", "y"))

    for position in range(10):
        warped = step.apply({"x": value, "y": labels}, 5, position)
        assert set(warped["y"]) <= {1, 2, 3, 4}
        assert warped["y"].dtype == labels.dtype
        sure = np.isin(warped["x"], [0, 10, 20, 30])
        assert np.array_equal(np.array([3, 1, 4, 2])[(warped["x"][sure] / 10).astype(int)], warped["y"][sure])


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, options, told",
    [
        ("random_window", {"length": 0}, "length: input should be greater than or equal to 1, got 0"),
        ("random_window", {"length": 3, "field": []}, "field"),
        ("random_jitter", {"std": -1}, "std: input should be greater than or equal to 0, got -1"),
        ("random_jitter", {"std": float("nan")}, "std: input should be"),
        ("random_scale", {"std": "much"}, "std: input should be a valid number"),
        ("random_time_warp", {"knots": 1}, "knots: input should be greater than or equal to 2, got 1"),
        ("random_time_warp", {"std": 20}, "std: input should be less than or equal to 3, got 20"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(method, options, told):
    with pytest.raises(DatasetError, match=f"^{method}: .*{told}"):
        getattr(Dataset.from_arrays(x=np.zeros((2, 9))), method)(**options)


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_a_field_that_is_no_series_is_refused(step):
    with pytest.raises(
        DatasetError, match=rf"{step.kind}: field 'x' is float32 \(\), expected a series \(steps, \.\.\.\)"
    ):
        step.declare({"x": FieldSpec((), "float32")})
    with pytest.raises(DatasetError, match=rf"{step.kind}: there is no field 'x'; the sample has \['y'\]"):
        step.declare({"y": FieldSpec((9,), "float32")})


@pytest.mark.parametrize("step", [RandomJitter(), RandomScale()], ids=repr)
def test_whole_numbers_are_to_be_cast_before_they_are_noised(step):
    with pytest.raises(DatasetError, match=r"expected a series .* of float32 or float64: cast it first"):
        step.declare({"x": FieldSpec((9,), "int16")})


def test_complex_numbers_are_not_warped():
    with pytest.raises(DatasetError, match=r"random_time_warp: field 'x' is complex64 .* expected real numbers"):
        RandomTimeWarp().declare({"x": FieldSpec((9,), "complex64")})
