"""A batch is a pure function of its number: however its rows are made, and by whom, the bytes are these."""

import gc
import itertools
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.transforms.geometry.affine import RandomRotate
from loader_service.dataset.whole import open_plan
from loader_service.protocol.errors import DatasetError, SampleError
from loader_service.protocol.layout import IDS, IDS_SPEC
from tests.dataset.reference import assert_same, plain_batch

IMAGES = (np.arange(13 * 12 * 10 * 3) * 7 % 251).reshape(13, 12, 10, 3).astype(np.uint8)
LABELS = np.arange(13) % 4
SERIES = np.arange(80, dtype=np.float32).reshape(40, 2)

AUGMENT = """
import random
import numpy as np

def noise(sample, rng):
    sample["image"] = sample["image"] + rng.normal(size=sample["image"].shape).astype("float32")
    sample["image"][0, 0, 0] += np.float32(np.random.rand())
    sample["image"][0, 0, 1] += np.float32(random.random())
    return {**sample, "extra": np.asarray([rng.integers(100)])}

class Drawn:
    def __len__(self):
        return 13

    def __getitem__(self, i):
        return {"x": np.random.rand(3), "y": np.asarray(i), "z": np.asarray(random.random())}
"""


@pytest.fixture(scope="module")
def augment(tmp_path_factory):
    """A user's module on the path, for the length of this file."""
    folder = tmp_path_factory.mktemp("plan_code")
    (folder / "plan_augment.py").write_text(AUGMENT)
    with pytest.MonkeyPatch.context() as patch:
        path = list(sys.path)
        patch.syspath_prepend(folder)
        yield "plan_augment"
        sys.path[:] = path
    sys.modules.pop("plan_augment", None)  # the tests that import it may run elsewhere


@pytest.fixture(scope="module")
def datasets(photos, npy_folder, augment):
    """One dataset for each way that rows are made, by name."""
    arrays = Dataset.from_arrays(image=IMAGES, label=LABELS)
    npy = Dataset.from_npy_files(npy_folder, labels=np.arange(10) % 3)
    pictures = Dataset.from_image_folder(photos)
    return {
        "columns read into the rows": arrays.batch(5),
        "columns, shuffled": arrays.shuffle(3).batch(5),
        "columns transformed in place": npy.rescale(0.5, field="x").normalize(0.1, 0.2, field="x").shuffle(1).batch(4),
        "columns transformed elsewhere": arrays.rescale(1 / 255).cast("image", "float64").one_hot("label", 4).batch(4),
        "samples fused": arrays.random_crop(8, 8).random_flip(vertical=0.5).normalize(1, 2).shuffle(9).batch(5),
        "samples in the row": arrays.resize(6, 5).random_flip(horizontal=0.7).shuffle(9).batch(5),
        "pictures": pictures.random_resized_crop(9, 8).random_flip().rescale(1 / 255).shuffle(2).batch(3),
        "pictures and one-hot": pictures.resize(8, 8).one_hot("label", 2).shuffle(2).batch(3),
        "a user's function": arrays.rescale(1 / 255).map(f"{augment}:noise").random_flip().shuffle(4).batch(4),
        "windows": Dataset.from_series(SERIES, SERIES, length=5, stride=3, offset=7)
        .rescale(0.5, field="x")
        .shuffle(4)
        .batch(4),
        "windows of recordings": Dataset.from_series([SERIES, SERIES[:9]], length=5, stride=3).shuffle(4).batch(4),
        "patches": Dataset.from_patches(IMAGES[0], y=IMAGES[1], size=(4, 3), overlap=1).rescale(2, field="x").batch(5),
        "random patches": Dataset.from_volumes(list(IMAGES), y=list(IMAGES), repeat=2)
        .random_patch((4, 3), field=("x", "y"))
        .rescale(0.5, field="x")
        .shuffle(4)
        .batch(5),
        "a user's source": Dataset.from_python(f"{augment}:Drawn").shuffle(4).batch(4),
        "padded": arrays.rescale(2.0).one_hot("label", 4).shuffle(5).batch(5, remainder="pad"),
        "padded, one by one": arrays.random_flip().shuffle(5).batch(5, remainder="pad"),
        "dropped": arrays.random_flip().shuffle(5).batch(5, remainder="drop"),
    }


WAYS = [
    "columns read into the rows",
    "columns, shuffled",
    "columns transformed in place",
    "columns transformed elsewhere",
    "samples fused",
    "samples in the row",
    "pictures",
    "pictures and one-hot",
    "a user's function",
    "windows",
    "windows of recordings",
    "patches",
    "random patches",
    "a user's source",
    "padded",
    "padded, one by one",
    "dropped",
]


def garbage(dataset, rows):
    """Return buffers for a batch, full of what another batch may have left there."""
    specs = {**dataset.spec, IDS: IDS_SPEC}
    buffers = {name: np.empty((rows, *spec.shape), spec.dtype) for name, spec in specs.items()}
    for buffer in buffers.values():
        buffer.reshape(-1).view(np.uint8)[:] = 0xA5
    return buffers


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
@settings(max_examples=12)
def test_however_a_batch_is_cut_into_tasks_its_bytes_are_the_same(datasets, way, data):
    """The cut depends on how many workers there are; slots are reused, and hold yesterday's bytes."""
    dataset = datasets[way]
    plan = dataset.plan
    n = data.draw(st.integers(0, 3 * plan.batches_per_epoch))
    rows = plan.info.rows(n)
    cuts = sorted({0, rows, *data.draw(st.lists(st.integers(0, rows), max_size=4))})
    tasks = data.draw(st.permutations(list(itertools.pairwise(cuts))))

    out = garbage(dataset, rows)
    for start, stop in tasks:
        plan.fill(n, start, stop, {name: buffer[start:stop] for name, buffer in out.items()})

    assert_same(out, plan.compute(n))


@pytest.mark.parametrize("way", WAYS)
def test_a_plan_that_is_let_go_of_is_gone_at_once(datasets, way):
    """A worker's garbage is collected now and then, and until then nobody would get the memory of the samples back."""
    dataset = datasets[way]
    gc.collect()
    gc.disable()
    try:
        plan = open_plan(dataset.declaration, lambda ref: dataset.tables[ref.table])
        plan.compute(0)
        plan.doubts()
        kept = [weakref.ref(each) for each in (plan, plan._rows, plan._reader)]
        del plan
        assert [ref() for ref in kept] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("padded") and way != "a user's source"])
def test_the_fused_way_equals_the_plain_one(datasets, way):
    """One sample, one transform after the other, fresh memory each time, stacked at the end."""
    dataset = datasets[way]

    for n in (0, dataset.batches_per_epoch - 1, dataset.batches_per_epoch):
        assert_same(dataset.compute(n), plain_batch(dataset, n))


sizes = st.integers(1, 9)
methods = st.sampled_from(["nearest", "bilinear", "area", "cubic", "lanczos"])
chances = st.sampled_from([0.0, 0.3, 1.0])
STEPS = st.one_of(
    st.builds(lambda h, w, i: ("resize", (h, w), {"interpolation": i}), sizes, sizes, methods),
    st.builds(lambda h, w, i: ("random_resized_crop", (h, w), {"interpolation": i}), sizes, sizes, methods),
    st.builds(lambda h, v: ("random_flip", (), {"horizontal": h, "vertical": v}), chances, chances),
    st.just(("rescale", (0.1, 3.0), {})),
    st.just(("normalize", (2.0, 0.7), {})),
    st.builds(lambda dtype: ("cast", ("image", dtype), {}), st.sampled_from(["uint8", "float32", "int16"])),
    st.just(("center_crop", (1, 1), {})),
    st.just(("random_crop", (1, 1), {})),
    st.just(("random_rotate", (30,), {})),
    st.just(("pad_image", (1,), {})),
)  # fmt: skip


@given(st.lists(STEPS, max_size=6), st.sampled_from([1, 3, 4]), st.sampled_from(["uint8", "float32"]))
@settings(max_examples=150)
def test_any_chain_of_transforms_equals_the_plain_way(chain, channels, dtype):
    """Which steps write into the row, and which work there in place, is decided for each chain anew."""
    images = (np.arange(6 * 7 * 9 * channels) * 11 % 256).reshape(6, 7, 9, channels).astype(dtype)
    dataset = Dataset.from_arrays(image=images, label=np.arange(6)).shuffle(1).batch(4)
    for name, arguments, options in chain:
        dataset = getattr(dataset, name)(*arguments, **options)

    batch = dataset.compute(0)

    assert_same(batch, plain_batch(dataset, 0))
    assert {name: (array.shape[1:], array.dtype.name) for name, array in batch.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in dataset.spec.items()
    }


def test_another_process_makes_the_same_bytes_in_the_same_order_of_fields(npy_folder, photos):
    """Sets of strings are ordered anew in each process: no field may stand elsewhere in another worker's slots."""
    script = (
        "import sys, hashlib, numpy as np\n"
        "from loader_service import Dataset\n"
        "a = {name: np.arange(24.0).reshape(6, 2, 2, 1) + i for i, name in enumerate('zyxabc')}\n"
        "chains = [Dataset.from_arrays(**a).random_flip(field='x').shuffle(1).batch(4).map('copy:copy'),\n"
        "  Dataset.from_arrays(**a).random_flip(field='x').random_flip(field='a').shuffle(1).batch(4),\n"
        "  Dataset.from_npy_files(sys.argv[1], labels=np.arange(10)).batch(4),\n"
        "  Dataset.from_image_folder(sys.argv[2]).random_resized_crop(8, 8).shuffle(2).batch(3)]\n"
        "for d in chains:\n"
        "  print(d.key, *((k, hashlib.md5(v.tobytes()).hexdigest()) for k, v in d.compute(1).items()))\n"
    )

    told = {
        subprocess.run(
            [sys.executable, "-c", script, npy_folder, photos],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }

    assert len(told) == 1
    assert len(told.pop().splitlines()) == 4


@pytest.mark.parametrize("samples, size", [(13, 5), (10, 5), (5, 5), (1, 1), (7, 3)])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_the_epoch_has_the_batches_that_its_remainder_says(samples, size, remainder):
    dataset = Dataset.from_arrays(x=np.arange(samples)).batch(size, remainder)

    whole, rest = divmod(samples, size)
    assert dataset.batches_per_epoch == whole + (1 if rest and remainder != "drop" else 0)
    rows = [dataset.plan.info.rows(n) for n in range(dataset.batches_per_epoch)]
    last = {"keep": rest or size, "drop": size, "pad": size}[remainder]
    assert rows == [size] * (dataset.batches_per_epoch - 1) + [last]


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_each_sample_is_seen_exactly_once_an_epoch(remainder):
    dataset = Dataset.from_arrays(x=np.arange(100, 113)).shuffle(3).batch(5, remainder)

    epochs = []
    for epoch in range(3):
        numbers = range(epoch * dataset.batches_per_epoch, (epoch + 1) * dataset.batches_per_epoch)
        batches = [dataset.plan.compute(n) for n in numbers]
        ids = np.concatenate([batch[IDS] for batch in batches])
        x = np.concatenate([batch["x"] for batch in batches])
        assert (x[ids >= 0] == ids[ids >= 0] + 100).all()
        epochs.append(ids[ids >= 0].tolist())

    assert all(len(set(ids)) == len(ids) == (10 if remainder == "drop" else 13) for ids in epochs)
    assert len({tuple(ids) for ids in epochs}) == 3


def test_padding_rows_are_zeros_of_weight_zero_and_no_sample():
    dataset = Dataset.from_arrays(x=np.full((7, 2), 9), y=np.full(7, 9)).batch(5, remainder="pad")

    last = dataset.plan.compute(1)

    assert last["weight"].tolist() == [1, 1, 0, 0, 0]
    assert last["weight"].dtype == np.float32
    assert last[IDS].tolist() == [5, 6, -1, -1, -1]
    assert last["y"].tolist() == [9, 9, 0, 0, 0]
    assert not last["x"][2:].any()


def test_a_weight_of_the_users_own_is_kept_and_is_zero_in_padding():
    dataset = Dataset.from_arrays(x=np.arange(3), weight=np.array([5.0, 6.0, 7.0])).batch(2, remainder="pad")

    assert dataset.compute(1)["weight"].tolist() == [7, 0]
    assert dataset.spec["weight"].dtype == "float64"


def test_a_dataset_smaller_than_its_batch_can_be_padded():
    dataset = Dataset.from_arrays(x=np.arange(3)).batch(5, remainder="pad")

    assert dataset.batches_per_epoch == 1
    assert dataset.compute(0)["x"].tolist() == [0, 1, 2, 0, 0]


def test_the_tail_of_a_dropped_epoch_is_another_one_each_time():
    """With remainder="drop", no sample is left out for ever."""
    dataset = Dataset.from_arrays(x=np.arange(7)).shuffle(1).batch(4, remainder="drop")

    seen = {x for n in range(20) for x in dataset.compute(n)["x"].tolist()}

    assert seen == set(range(7))


def test_a_batch_larger_than_the_dataset_is_refused_with_both_ways_out():
    dataset = Dataset.from_arrays(x=np.arange(3)).batch(64)

    with pytest.raises(DatasetError, match=r'batch size 64 is larger than the dataset \(3 samples\): use .batch\(3\), '
                       'or remainder="pad"'):  # fmt: skip
        dataset.compute(0)


def test_a_dataset_without_a_batch_size_says_what_to_add():
    with pytest.raises(DatasetError, match=r"has no batch size: add .batch\(size\), for example .batch\(64\)"):
        Dataset.from_arrays(x=np.arange(3)).compute(0)


def test_a_field_that_would_hide_the_sample_ids_is_refused():
    with pytest.raises(DatasetError, match="a field cannot be named 'ids'"):
        Dataset.from_arrays(ids=np.arange(3)).batch(2).compute(0)


def test_computing_leaves_the_trainers_own_random_numbers_alone(datasets):
    """`compute`, `spec` and workers=0 run in the training process, whose generators are its own."""
    np.random.seed(42)
    expected = np.random.rand(3).tolist()
    np.random.seed(42)

    _ = datasets["a user's function"].spec
    datasets["a user's function"].compute(1)
    datasets["a user's source"].compute(1)

    assert np.random.rand(3).tolist() == expected


@pytest.mark.parametrize(("side", "told"), [(146, "many rows at once: image"), (148, "sample by sample: image")])
def test_large_rows_are_made_where_they_are_read_and_small_ones_together(side, told):
    pictures = np.random.default_rng(0).integers(0, 255, (5, side, side, 3), dtype=np.uint8)
    dataset = Dataset.from_arrays(image=pictures).random_flip().rescale(2.0).shuffle(2).batch(5)

    made = dataset.compute(0)["image"]

    for row, picture in zip(made, pictures[dataset.plan.compute(0)["ids"]] * np.float32(2), strict=True):
        assert (row == picture).all() or (row == picture[:, ::-1]).all()
    assert told in str(dataset.explain())


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_rows_that_are_changed_from_where_they_lie_are_those_of_samples_made_one_by_one(byteorder, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 2000, (7, 40, 50, 3)).astype(f"{byteorder}u2")
    for number, picture in enumerate(pictures):
        np.save(tmp_path / f"{number}.npy", picture)
    Dataset.from_npy_files(tmp_path).pack(tmp_path / "rows.pack")

    for source in (Dataset.from_arrays(x=pictures), Dataset.from_pack(tmp_path / "rows.pack")):
        turned = source.random_resized_crop(24, 24, field="x").random_flip(field="x").random_rotate(20, field="x")
        batches = turned.random_crop(20, 22, field="x").shuffle(3).batch(4)
        for n in range(2):
            assert_same(batches.compute(n), plain_batch(batches, n))


def test_an_error_in_a_row_that_is_changed_from_where_it_lies_names_that_row(monkeypatch):
    def refuse_black(step, value, draws, out):
        if not value.any():
            raise ValueError("black")
        return value

    monkeypatch.setattr(RandomRotate, "apply", refuse_black)
    pictures = np.ones((5, 8, 8, 3), np.uint8)
    pictures[3] = 0
    with pytest.raises(SampleError, match=r"sample 3 \(row 3\): ValueError: black"):
        Dataset.from_arrays(image=pictures).random_rotate(9).batch(5).compute(0)
