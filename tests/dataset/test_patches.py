"""Patches of large volumes: random ones for training, a grid of them to predict, and the predictions as one volume."""

import json
import os
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.sources.patches import Grid
from loader_service.dataset.transforms.patch import RandomPatch
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.spec import FieldSpec
from tests.dataset.test_series import columns, opened
from tests.dataset.test_sources import everything


def volume(*shape, dtype="int32", first=0):
    """Return an array whose every number tells where it lies."""
    return (np.arange(np.prod(shape)).reshape(shape) + first).astype(dtype)


@pytest.fixture
def volumes(tmp_path):
    """Two volumes of different sizes, and a mask of each: 1 where the volume is odd."""
    paths = {"x": [], "y": []}
    for number, shape in enumerate([(9, 8, 7), (6, 12, 10)]):
        x = volume(*shape, first=10_000 * number)
        for field, array in (("x", x), ("y", (x % 2).astype(np.uint8))):
            paths[field].append(tmp_path / f"{field}{number}.npy")
            np.save(paths[field][-1], array)
    return paths


# -- the grid -----------------------------------------------------------------------------------------------

axis = st.integers(1, 12).flatmap(
    lambda size: st.tuples(st.integers(size, 30), st.just(size), st.integers(0, size - 1))
)


@st.composite
def grids(draw):
    """Return one to three volumes of different extents, with the patches of all."""
    first = draw(st.lists(axis, min_size=1, max_size=3))
    size, overlap = tuple(size for _, size, _ in first), tuple(overlap for *_, overlap in first)
    others = draw(st.lists(st.tuples(*(st.integers(size, 20) for size in size)), max_size=2))
    return Grid(np.array([[extent for extent, *_ in first], *others]), size, overlap)


@given(grids())
@settings(max_examples=60, deadline=None)
def test_every_voxel_is_covered_as_often_as_the_grid_says_and_neighbours_overlap_as_declared(grid):
    cover = [np.zeros(extent, int) for extent in grid.extents.tolist()]
    volumes, corners = grid.find(np.arange(len(grid)))
    for number, corner in zip(volumes, corners, strict=True):
        assert (corner >= 0).all()
        assert (corner + grid.size <= grid.extents[number]).all()
        cover[number][grid.box(corner)] += 1

    assert all((counts > 0).all() for counts in cover)
    assert len({(number, *corner) for number, corner in zip(volumes.tolist(), corners.tolist(), strict=True)}) == len(
        grid
    )
    for number, counts in enumerate(cover):
        along = [grid.cover(number, axis) for axis in range(len(grid.size))]
        assert np.array_equal(counts, reduce(np.multiply.outer, along))
        for axis, (size, overlap) in enumerate(zip(grid.size, grid.overlap, strict=True)):
            starts = np.unique(corners[volumes == number][:, axis])
            assert starts[0] == 0
            assert starts[-1] + size == grid.extents[number, axis]
            assert set(np.diff(starts)[:-1]) <= {size - overlap}
            assert (np.diff(starts) <= size - overlap).all()


@given(grids(), st.integers(0, 2), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_patches_that_are_stitched_are_the_volumes(grid, channels, batch):
    shapes = [(*extent, *[2] * channels) for extent in grid.extents.tolist()]
    volumes = [volume(*shape, first=1000 * number) for number, shape in enumerate(shapes)]
    dataset = Dataset.from_patches(volumes, size=grid.size, overlap=grid.overlap)
    patches = everything(dataset)["x"]

    whole = dataset.batch(1).stitch(patches)
    piecemeal = dataset.batch(1).stitch(patches[start : start + batch] for start in range(0, len(patches), batch))

    assert patches.shape == (len(grid), *grid.size, *[2] * channels)
    for stitched in (whole, piecemeal):
        assert all(np.array_equal(got, expected) for got, expected in zip(stitched, volumes, strict=True))


def test_where_patches_overlap_the_mean_is_taken():
    dataset = Dataset.from_patches(np.zeros((5, 2)), size=(3, 2), overlap=1).batch(1)
    predictions = np.array([[[6.0] * 2] * 3, [[2.0] * 2] * 3], np.float16)

    (stitched,) = dataset.stitch(predictions)

    assert stitched.dtype == np.float32
    assert stitched[:, 0].tolist() == [6, 6, 4, 2, 2]


def test_predictions_may_have_axes_of_their_own():
    """A softmax over four classes, of a volume without channels."""
    dataset = Dataset.from_patches(volume(6, 6), size=(4, 4), overlap=2).batch(2)
    patches = everything(dataset)["x"]
    predictions = np.stack([patches * factor for factor in (1.0, 2.0, 4.0, 8.0)], axis=-1)

    (stitched,) = dataset.stitch(predictions)

    assert stitched.shape == (6, 6, 4)
    assert np.array_equal(stitched[..., 3], volume(6, 6) * 8)


def test_predictions_of_padding_are_left_out():
    dataset = Dataset.from_patches(volume(5, 5), size=(2, 2)).batch(4, remainder="pad")
    batches = [dataset.compute(n)["x"] for n in range(dataset.batches_per_epoch)]

    (stitched,) = dataset.stitch(np.concatenate(batches))

    assert len(np.concatenate(batches)) == 12 > dataset.samples == 9
    assert np.array_equal(stitched, volume(5, 5))


@pytest.mark.parametrize(
    "change, predictions, told",
    [
        (lambda ds: ds, np.zeros((8, 2, 2)), "there are 8 predictions, expected one for each of 9 patches"),
        (lambda ds: ds, np.zeros((10, 2, 2)), "there are 10 predictions, expected one for each of 9 patches"),
        (lambda ds: ds, [], "there are 0 predictions"),
        (lambda ds: ds, np.zeros((9, 4)), r"are of the shape \(9, 4\), expected \(patches, 2, 2, ...\)"),
        (lambda ds: ds, np.zeros((9, 1, 2)), r"are of the shape \(9, 1, 2\), expected \(patches, 2, 2, ...\)"),
        (lambda ds: ds.shuffle(1), np.zeros((9, 2, 2)), "in the order of the patches: leave .shuffle"),
        (
            lambda ds: Dataset.from_arrays(x=[1, 2]).batch(1),
            np.zeros((9, 2, 2)),
            "the dataset reads arrays: only patches",
        ),
    ],
)
def test_predictions_that_have_no_place_are_refused(change, predictions, told):
    dataset = change(Dataset.from_patches(volume(5, 5), size=(2, 2)).batch(3))

    with pytest.raises(DatasetError, match=f"^stitch: .*{told}"):
        dataset.stitch(predictions)


# -- patches as a source ------------------------------------------------------------------------------------


def test_volumes_of_different_sizes_and_their_masks_are_cut_alike(volumes):
    dataset = Dataset.from_patches(volumes["x"], y=volumes["y"], size=(4, 5, 3), overlap=(1, 2, 0)).batch(4)
    batch = everything(dataset)
    reader = opened(dataset)

    assert dataset.spec == {"x": FieldSpec((4, 5, 3), "int32"), "y": FieldSpec((4, 5, 3), "uint8")}
    assert np.array_equal(batch["x"] % 2, batch["y"])
    assert all(np.array_equal(columns(reader)[field], batch[field]) for field in ("x", "y"))
    for sample in range(len(reader)):
        assert np.array_equal(reader.read(sample, frozenset({"x"}))["x"], batch["x"][sample])


def test_an_axis_that_is_not_cut_must_be_alike_in_all_volumes(tmp_path):
    np.save(tmp_path / "0.npy", volume(6, 6, 3))
    np.save(tmp_path / "1.npy", volume(6, 6, 4))

    with pytest.raises(DatasetError, match=r"1.npy: field 'x' is of the shape \(6, 6, 4\), and volume 0 has \(3,\)"):
        opened(Dataset.from_patches([tmp_path / "0.npy", tmp_path / "1.npy"], size=(2, 2)))


def test_arrays_in_memory_are_cut_as_files_are(volumes):
    arrays = [np.load(path) for path in volumes["x"]]

    from_files = everything(Dataset.from_patches(volumes["x"], size=(4, 5, 6), overlap=3))["x"]

    assert np.array_equal(from_files, everything(Dataset.from_patches(arrays, size=(4, 5, 6), overlap=3))["x"])
    alone = everything(Dataset.from_patches(arrays[0], size=(4, 5, 6), overlap=3))["x"]
    assert np.array_equal(alone, from_files[: len(alone)])


@pytest.mark.parametrize("dtype, order", [(">f4", "C"), ("<f8", "F"), ("bool", "C"), (">i2", "F")])
@pytest.mark.parametrize("kind", ["grid", "random"])
def test_a_volume_is_read_as_numpy_reads_it(tmp_path, dtype, order, kind):
    array = np.asarray(volume(6, 7, 2) % 5, dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    dataset = {
        "grid": lambda: Dataset.from_patches(tmp_path / "x.npy", size=(6, 7)),
        "random": lambda: Dataset.from_volumes(tmp_path / "x.npy").random_patch((6, 7), field="x"),
    }[kind]()

    x = everything(dataset)["x"]

    assert x.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(x[0], array)


def test_a_volume_may_be_larger_than_memory(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (5000, 5000, 5000))  # 125 GB, of holes
    grid = Dataset.from_patches(tmp_path / "x.npy", size=(64, 64, 64), overlap=16).batch(2)
    anywhere = Dataset.from_volumes(tmp_path / "x.npy", repeat=100).random_patch((64, 64, 64), field="x").batch(2)

    assert grid.samples == 104**3
    assert grid.compute(104**3 // 2 - 1)["x"].shape == anywhere.compute(7)["x"].shape == (2, 64, 64, 64)


def test_a_patch_is_called_by_its_file_and_its_corner(volumes):
    arrays = [np.load(path) for path in volumes["x"]]

    from_files = opened(Dataset.from_patches(volumes["x"], size=(4, 5, 6)))
    in_memory = opened(Dataset.from_patches(arrays, size=(4, 5, 6)))

    assert from_files.describe(len(from_files) - 1) == f"{volumes['x'][1]}, patch at (2, 7, 4)"
    assert in_memory.describe(len(in_memory) - 1) == "volume 1, patch at (2, 7, 4)"
    assert opened(Dataset.from_volumes(volumes["x"], repeat=2)).describe(3) == str(volumes["x"][1])


def test_a_patch_that_cannot_be_made_is_named_or_replaced(volumes, user_module, address):
    """A patch that another one replaced lies elsewhere, so the whole cannot be stitched."""
    module = user_module(
        "def refuse(sample):\n    if 10_000 in sample['x']:\n        raise ValueError('artefact')\n    return sample\n"
    )
    dataset = Dataset.from_patches(volumes["x"], size=(3, 4, 5)).map(f"{module}:refuse").batch(4)

    with pytest.raises(SampleError, match=r"\(.*/x1.npy, patch at \(0, 0, 0\)\): ValueError: artefact"):
        everything(dataset)
    replaced = dataset.on_error("replace", most=0.2)
    patches = np.concatenate([replaced.compute(n)["x"] for n in range(replaced.batches_per_epoch)])

    assert 10_000 not in patches
    again = Dataset(replaced.declaration)  # opened after the sample was found to be bad
    with pytest.raises(DatasetError, match=r"^stitch: 1 patches were replaced by others, which lie elsewhere"):
        again.stitch(patches)


@pytest.mark.parametrize(
    "options, told",
    [
        (
            {"size": (10, 4)},
            r"volume 0: field 'x' is of the shape \(9, 8, 3\), smaller than a patch of \(10, 4\): make",
        ),
        ({"size": (4, 4, 4, 1)}, r"volume 0: field 'x' is of the shape \(9, 8, 3\), smaller than a patch of \(4, 4, 4"),
        (
            {"size": (4, 4), "y": volume(9, 7)},
            r"volume 0: field 'y' is of the shape \(9, 7\), and the first field \(9, 8\) along the axes that are",
        ),
        (
            {"size": (4, 4), "y": [volume(9, 8)] * 2},
            r"of different numbers of volumes \(x: 1, y: 2\): expected as many",
        ),
        ({"size": (4, 4), "overlap": 4}, r"^patches: overlap 4 must be smaller than the patch, \(4, 4\)"),
        ({"size": (4, 4), "overlap": (0, 5)}, r"^patches: overlap \(0, 5\) must be smaller than the patch, \(4, 4\)"),
        (
            {"size": (4, 4), "overlap": (1,)},
            r"^patches: overlap \(1,\) and size \(4, 4\): expected one number for each",
        ),
        ({"size": (4, 4), "overlap": -1}, r"^patches: overlap.*: input should be greater than or equal to 0, got -1"),
        ({"size": (4, 0)}, r"^patches: size.1: input should be greater than or equal to 1, got 0"),
        ({"size": 4}, r"^patches: size: expected a list, got 4"),
        ({"size": ()}, r"^patches: size: "),
        ({"size": (4, 4), "x": "/no/such.npy"}, "^field 'x': array file '/no/such.npy' does not exist"),
        ({"size": (4, 4), "x": np.array(["a"])}, "^from_patches: 'x' is <U1 .*expected an array of numbers"),
    ],
)
def test_what_cannot_be_cut_is_refused(options, told):
    with pytest.raises(DatasetError, match=told):
        opened(Dataset.from_patches(**{"x": volume(9, 8, 3), **options}))


def test_every_option_and_a_changed_file_make_another_dataset(volumes):
    def keys():
        x, y = volumes["x"], volumes["y"]
        yield from (
            Dataset.from_patches(x, size=(4, 4, 4)).batch(2).key,
            Dataset.from_patches(x, size=(4, 4, 5)).batch(2).key,
            Dataset.from_patches(x, size=(4, 4, 4), overlap=1).batch(2).key,
            Dataset.from_patches(x, size=(4, 4, 4), y=y).batch(2).key,
            Dataset.from_patches(x[:1], size=(4, 4)).batch(2).key,
            Dataset.from_volumes(x[:1]).batch(1).key,
            Dataset.from_volumes(x[:1], repeat=2).batch(1).key,
            Dataset.from_volumes(x[:1]).random_patch((2, 2), field="x").batch(1).key,
            Dataset.from_volumes(x[:1], y=y[:1]).random_patch((2, 2), field=("x", "y")).batch(1).key,
        )

    before = list(keys())
    os.utime(volumes["x"][0], ns=(0, 1))

    assert len({*before, *keys()}) == 2 * len(before)


# -- random patches -----------------------------------------------------------------------------------------


def test_random_patches_of_a_volume_and_its_mask_lie_at_one_place(volumes):
    dataset = Dataset.from_volumes(volumes["x"], y=volumes["y"], repeat=20).random_patch((4, 5, 6), field=("x", "y"))
    batch = everything(dataset.shuffle(3))

    assert batch["x"].shape == (40, 4, 5, 6)
    assert np.array_equal(batch["x"] % 2, batch["y"])
    assert (batch["x"][:, 0, 0, 0] >= 10_000).sum() == 20


def test_each_epoch_has_patches_of_other_places_and_the_same_ones_again_for_the_same_number(volumes):
    dataset = Dataset.from_volumes(volumes["x"], repeat=20).random_patch((4, 5, 6), field="x").shuffle(3).batch(40)

    corners = [set(dataset.compute(n)["x"][:, 0, 0, 0].tolist()) for n in (0, 1, 0)]

    assert corners[0] == corners[2]
    assert len(corners[0] - corners[1]) > 5


def test_patches_of_a_volume_that_is_damaged_are_replaced_where_that_may_be(volumes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    patches = Dataset.from_volumes(volumes["x"], repeat=5).random_patch((4, 5, 6), field="x").batch(5)
    replacing = patches.on_error("replace", most=0.5)
    assert (patches.samples, replacing.samples) == (10, 10)
    volumes["x"][1].write_bytes(volumes["x"][1].read_bytes()[:-8])

    with pytest.raises(SampleError, match=r"sample 5 \(.*x1.npy\): "):
        patches.compute(1)
    batches = [replacing.compute(n) for n in range(2)]

    assert {bad.id for bad in replacing.plan.ledger} == {1, 3, 5, 7, 9}
    assert all((batch["x"] < 10_000).all() for batch in batches)


def test_a_random_patch_lies_at_every_place_about_equally_often():
    sample = {"x": volume(4, 6, 3)}
    cut = RandomPatch(size=(2, 4), field="x")

    places = [int(cut.apply(sample, 3, position)["x"][0, 0, 0]) // 3 for position in range(9000)]

    found, counts = np.unique(places, return_counts=True)
    assert found.tolist() == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert ((counts - 1000) ** 2 / 1000).sum() < 8 + 5 * 4


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=4), st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_a_random_patch_is_a_part_of_its_volume(axes, position):
    size = tuple(size for size, _ in axes)
    sample = {"x": np.broadcast_to(np.zeros(()), [size + spare for size, spare in axes])}

    assert RandomPatch(size=size, field="x").apply(sample, 7, position)["x"].shape == size


def test_pictures_and_their_masks_can_be_cut_at_one_place():
    pictures = np.stack([volume(20, 30, 3, dtype="uint8")] * 4)
    dataset = Dataset.from_arrays(image=pictures, mask=pictures[..., 0]).random_patch((8, 9), field=["image", "mask"])

    batch = dataset.batch(4).compute(0)

    assert batch["image"].shape == (4, 8, 9, 3)
    assert np.array_equal(batch["image"][..., 0], batch["mask"])


def test_a_random_patch_of_a_sequence_is_a_part_of_it_and_all_are_of_one_length():
    sequences = [volume(steps, 2, first=1000 * steps) for steps in (9, 4, 30)]

    dataset = Dataset.from_arrays(x=sequences).random_patch((4,), field="x").shuffle(1).batch(3)

    assert dataset.spec == {"x": FieldSpec((4, 2), "int32")}
    firsts = dataset.compute(0)["x"][:, 0, 0].tolist()
    assert sorted(first // 1000 for first in firsts) == [4, 9, 30]
    assert firsts != dataset.compute(1)["x"][:, 0, 0].tolist()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"size": (2, 2), "field": "z"}, r"random_patch: there is no field 'z'; the sample has \['x', 'y'\]"),
        (
            {"size": (2, 2, 2), "field": ("x", "y")},
            r"field 'y' is int32 \(9, 7\), expected at least 3 axes for a patch",
        ),
        (
            {"size": (2, 9), "field": "x"},
            r"sample 0 \(volume 0\): random_patch: field 'x' is \(9, 8\), smaller than a patch",
        ),
        (
            {"size": (2, 2), "field": ("x", "y")},
            r"field 'y' is \(9, 7\) and field 'x' \(9, 8\) along the axes that are",
        ),
        ({"size": (0, 2)}, r"^random_patch: size.0: input should be greater than or equal to 1, got 0"),
        ({"size": (2, 2), "field": ()}, r"^random_patch: field"),
    ],
)
def test_what_no_patch_can_be_taken_of_is_refused(options, told):
    with pytest.raises(DatasetError, match=told):
        everything(Dataset.from_volumes(volume(9, 8, 3), y=volume(9, 7)).random_patch(**options))


# -- plain data ---------------------------------------------------------------------------------------------


def test_volumes_and_patches_travel_as_plain_data(volumes):
    arrays = [np.load(path) for path in volumes["x"]]
    for dataset in (
        Dataset.from_patches(volumes["x"], y=volumes["y"], size=(4, 4, 7), overlap=(1, 2, 0)).batch(3),
        Dataset.from_patches(arrays, size=(4, 4, 4), overlap=2).batch(3),
        Dataset.from_volumes(arrays, y=volumes["y"], repeat=5).random_patch((4, 4, 4), field=("x", "y")).batch(3),
        Dataset.from_series(volumes["x"][0], volumes["x"][0], length=2, offset=3).batch(3),
        Dataset.from_series(arrays[0], lengths=[4, 5], length=2).batch(3),
    ):
        returned = Dataset.from_dict(json.loads(json.dumps(dataset.to_dict())), dataset.tables)

        assert returned.key == dataset.key
        assert repr(returned) == repr(dataset)


def test_repr_tells_what_is_cut(volumes):
    arrays, masks = [np.load(path) for path in volumes["x"]], tuple(map(str, volumes["y"]))

    assert repr(Dataset.from_patches(arrays, y=volumes["y"], size=(4, 4), overlap=2)) == (
        f"<Dataset patches(fields={{x: 2 arrays of int32, y: {masks}}}, size=(4, 4), overlap=2)>"
    )
    assert repr(Dataset.from_volumes(arrays[0], repeat=9).random_patch((4, 4), field="x")) == (
        "<Dataset volumes(fields={x: int32 (9, 8, 7)}, repeat=9) -> random_patch(size=(4, 4), field='x')>"
    )
