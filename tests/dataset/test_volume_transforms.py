"""Scans and their masks, mirrored and turned alike."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.draws import uniforms
from loader_service.dataset.transforms.volumes import RandomVolumeFlip, RandomVolumeRot90, RandomVolumeRotation
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec

STEPS = [
    RandomVolumeFlip(),
    RandomVolumeRot90(),
    RandomVolumeRot90(axes=(0, 2)),
    RandomVolumeRotation(degrees=40),
    RandomVolumeRotation(degrees=40, axis=1, masks=("x",)),
    RandomVolumeRotation(degrees=40, axis=2, fill_mode="reflect"),
]
METHODS = {"random_volume_flip": {}, "random_volume_rot90": {}, "random_volume_rotation": {"degrees": 30}}


def volume(*shape, dtype="uint8"):
    return (np.arange(np.prod(shape)) * 37 % 251).reshape(shape).astype(dtype)


def made(step, value, position=0, **others):
    return step.apply({"x": value, **others}, 1, position)["x"]


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (5, 5, 5), (4, 4, 4, 1), (4, 4, 4, 3), (3, 3, 3, 6)])
def test_a_step_returns_what_it_declares_and_leaves_its_input_alone(step, dtype, shape):
    value = volume(*shape, dtype=dtype)
    before = value.copy()
    declared = step.declare({"x": FieldSpec.of(value)})["x"]

    found = made(step, value)

    assert FieldSpec.of(found) == declared
    assert np.array_equal(value, before)


@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 500), st.integers(1, 5))
@settings(max_examples=8)
def test_rows_made_alone_are_those_made_together_and_neighbours_differ(method, n, rows):
    x = np.tile(volume(6, 6, 6), (12, 1, 1, 1))
    dataset = getattr(Dataset.from_arrays(x=x), method)(**METHODS[method])
    together = dataset.batch(12).compute(n)["x"]

    alone = dataset.batch(rows)
    first = n * alone.batches_per_epoch
    parts = np.concatenate([alone.compute(first + k)["x"] for k in range(alone.batches_per_epoch)])

    assert np.array_equal(parts, together)
    assert len(np.unique(together.reshape(12, -1), axis=0)) >= (9 if method == "random_volume_rotation" else 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [(), (2,)])
def test_a_mask_goes_the_way_of_its_scan(method, channels):
    """The mask says where the scan is bright; after a turn it still does, but for a voxel at the edges."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 2, (6, 3, 3, 3)), np.ones((1, 4, 4, 4))).astype("int64")
    scan = np.repeat(mask[..., None] * 200, 2, axis=-1) if channels else mask * 200
    options = {**METHODS[method], **({"masks": ["y"]} if method == "random_volume_rotation" else {})}
    dataset = getattr(Dataset.from_arrays(x=scan.astype("uint8"), y=mask), method)(**options, field=["x", "y"])

    batch = dataset.batch(6).compute(0)

    bright = batch["x"].astype(int).reshape(*mask.shape, -1)[..., 0]
    assert set(np.unique(batch["y"])) <= {0, 1}
    sure = (bright < 5) | (bright > 195)
    assert sure.mean() > (0.5 if method == "random_volume_rotation" else 0.99)
    assert (((bright > 100) == batch["y"])[sure]).mean() > 0.99
    assert not np.array_equal(batch["y"], mask)


# -- crop ---------------------------------------------------------------------------------------------------


def test_the_middle_is_cut_out_of_all_fields():
    x = volume(2, 9, 8, 7, 3)
    dataset = Dataset.from_arrays(x=x, y=x[..., 0]).center_patch((4, 4, 7), field=["x", "y"]).batch(2)

    batch = dataset.compute(0)

    assert np.array_equal(batch["x"], x[:, 2:6, 2:6])
    assert np.array_equal(batch["y"], x[:, 2:6, 2:6, :, 0])


def test_a_middle_larger_than_the_volume_is_refused():
    with pytest.raises(
        SampleError, match=r"center_patch: field 'x' is \(3, 3, 3\), smaller than a patch of \(4, 3, 3\)"
    ):
        Dataset.from_arrays(x=np.zeros((2, 3, 3, 3))).center_patch((4, 3, 3), field="x").batch(1).compute(0)


# -- flip ---------------------------------------------------------------------------------------------------


def test_each_axis_is_mirrored_with_its_probability():
    value = volume(2, 3, 4)
    outcomes = {flips: np.flip(value, np.flatnonzero(flips)) for flips in itertools.product([0, 1], repeat=3)}
    found = []

    for position in range(4000):
        flipped = made(RandomVolumeFlip(probability=(0.5, 0.2, 0)), value, position)
        found.append(next(flips for flips, outcome in outcomes.items() if np.array_equal(outcome, flipped)))

    table = np.array(found)
    assert table.mean(axis=0) == pytest.approx([0.5, 0.2, 0], abs=0.04)
    assert np.corrcoef(table[:, :2].T)[0, 1] == pytest.approx(0, abs=0.05)


# -- quarter turns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2), (2, 1)])
def test_all_four_quarter_turns_come_about_equally_often(axes):
    value = volume(5, 5, 5, 2)
    turns = [np.rot90(value, k, axes) for k in range(4)]

    counts = [0] * 4
    for position in range(2000):
        turned = made(RandomVolumeRot90(axes=axes), value, position)
        counts[next(k for k in range(4) if np.array_equal(turned, turns[k]))] += 1

    assert min(counts) > 420


def test_a_plane_that_is_no_square_is_refused_when_it_is_declared():
    with pytest.raises(DatasetError, match=r"field 'x' is uint8 \(4, 5, 6\), whose axes \(1, 2\) are \(5, 6\)"):
        RandomVolumeRot90().declare({"x": FieldSpec((4, 5, 6), "uint8")})
    RandomVolumeRot90(axes=(0, 2)).declare({"x": FieldSpec((4, 5, 4), "uint8")})


def test_a_volume_of_another_size_than_the_first_is_refused_by_name(tmp_path):
    for name, shape in {"a": (4, 5, 5), "b": (4, 5, 6)}.items():
        np.save(tmp_path / f"{name}.npy", np.zeros(shape))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]

    with pytest.raises(SampleError, match=r"sample 1 .*axes \(1, 2\) are no square"):
        Dataset.from_volumes(files).random_volume_rot90().random_patch((4, 4, 4), field="x").batch(2).compute(0)


# -- any angle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (6,)])
def test_a_turn_is_that_of_scipy(axis, dtype, channels):
    ndimage = pytest.importorskip("scipy.ndimage")
    value = ndimage.gaussian_filter(np.random.default_rng(0).random((12, 14, 17, *channels)), 1.5) * 250
    value = value.astype(dtype)
    step = RandomVolumeRotation(degrees=50, axis=axis, fill_mode="nearest")
    plane = [other for other in range(3) if other != axis]

    for position in range(3):
        turned = made(step, value, position).astype(float)
        angle = angle_of(step, position)
        expected = ndimage.rotate(value.astype(float), angle, plane, reshape=False, order=1, mode="nearest")
        assert np.abs(turned - expected).max() < (0.6 if dtype == "uint8" else 0.1) + 1  # 1/32 of a pixel


def test_a_quarter_turn_is_that_of_numpy():
    value = volume(2, 5, 5, dtype="float32")

    turned = RandomVolumeRotation(degrees=90).changed("x", value, [1.0])

    np.testing.assert_allclose(turned, np.rot90(value, 1, (1, 2)), atol=1e-3)


def angle_of(step, position):
    return step.angle(uniforms(1, np.array([position]), 1)[0, 0])


def test_what_comes_from_outside_is_the_value_and_0_in_masks():
    step = RandomVolumeRotation(degrees=45, value=9, field=("x", "y"), masks=("y",))
    sample = {"x": np.full((2, 40, 40), 100.0), "y": np.full((2, 40, 40), 3)}

    for position in range(20):
        made_of = step.apply(sample, 1, position)
        assert made_of["x"].min() >= 9
        assert set(np.unique(made_of["y"])) <= {0, 3}
    assert made_of["x"][0, 0, 0] == 9
    assert made_of["y"][0, 0, 0] == 0
    assert made_of["x"][0, 20, 20] == 100


def test_angles_lie_within_the_range_to_either_side():
    angles = [angle_of(RandomVolumeRotation(degrees=20), position) for position in range(400)]

    assert -20 <= min(angles) < -19
    assert 19 < max(angles) <= 20
    assert abs(np.mean(angles)) < 2


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, options, told",
    [
        ("random_volume_flip", {"probability": 2}, "probability: expected a probability in 0 .. 1, or three, .* got 2"),
        ("random_volume_flip", {"probability": (0.5, 0.5)}, "probability: expected"),
        ("random_volume_rot90", {"axes": (1, 1)}, r"axes: expected two axes that differ: 0 depth, 1 height, 2 width"),
        ("random_volume_rot90", {"axes": (0, 3)}, "axes.1: input should be less than or equal to 2, got 3"),
        ("random_volume_rotation", {"degrees": -1}, "degrees: input should be greater than or equal to 0, got -1"),
        ("random_volume_rotation", {"axis": 4}, "axis: input should be less than or equal to 2, got 4"),
        (
            "random_volume_rotation",
            {"fill_mode": "wrap"},
            "fill_mode: input should be 'constant', 'near",
        ),
    ],
)
def test_a_wrong_argument_is_refused_by_name(method, options, told):
    with pytest.raises(DatasetError, match=f"^{method}: .*{told}"):
        getattr(Dataset.from_arrays(x=np.zeros((2, 3, 3, 3))), method)(**options)


def test_more_than_a_whole_turn_is_warned_of():
    with pytest.warns(UserWarning, match="degrees=720 is more than a whole turn"):
        Dataset.from_arrays(x=np.zeros((2, 3, 3, 3))).random_volume_rotation(720)


@pytest.mark.parametrize("method", METHODS)
def test_fields_that_do_not_fit_are_refused(method):
    dataset = Dataset.from_arrays(x=np.zeros((2, 3, 3, 3)), y=np.zeros((2, 4, 3, 3)), z=np.zeros((2, 3)))

    with pytest.raises(DatasetError, match=rf"{method}: there is no field 'w'; the sample has \['x', 'y', 'z'\]"):
        getattr(dataset, method)(field="w").batch(1).spec  # noqa: B018 - it is opened
    with pytest.raises(DatasetError, match=rf"{method}: field 'z' is float64 \(3,\), expected a volume"):
        getattr(dataset, method)(field="z").batch(1).spec  # noqa: B018
    with pytest.raises(DatasetError, match=rf"{method}: field 'y' is \(4, 3, 3\) and field 'x' \(3, 3, 3\)"):
        getattr(dataset, method)(field=["x", "y"]).batch(1).compute(0)


def test_a_mask_that_is_not_turned_is_refused():
    with pytest.raises(DatasetError, match="mask 'mask' is no field that is turned; there are 'x'"):
        RandomVolumeRotation(masks=("mask",)).declare({"x": FieldSpec((3, 3, 3), "uint8")})
    with pytest.raises(DatasetError, match=r"field 'x' is complex128 .*, expected numbers of 1, 2, 4 or 8 bytes"):
        RandomVolumeRotation().declare({"x": FieldSpec((3, 3, 3), "complex128")})
