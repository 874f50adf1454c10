import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import msgpack
import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.plan import Plan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec
from loader_service.protocol.tables import TableRef
from tests.dataset.conftest import gradient, write_picture

X, Y = np.arange(80, dtype="uint8").reshape(10, 2, 2, 2), np.arange(10)
NOISE = "def noise(sample, rng):\n    return sample\n"


@pytest.fixture
def arrays():
    return Dataset.from_arrays(x=X, label=Y)


def chained(dataset, module):
    """Return a dataset with one of each transform."""
    return (
        dataset.resize(9, 9, interpolation="cubic", field="x")
        .random_resized_crop(8, 8, scale=(0.5, 1), field="x")
        .random_crop(7, 7, field="x")
        .center_crop(6, 6, field="x")
        .random_flip(vertical=0.25, field="x")
        .rescale(1 / 255, -0.5, field="x")
        .normalize([0.1, 0.2], 2, field="x")
        .cast("x", "float64")
        .map(f"{module}:noise")
        .one_hot("label", 10)
        .shuffle(seed=7)
        .batch(4, remainder="pad")
    )


def test_every_method_returns_a_new_dataset_and_leaves_the_old_one_alone(arrays, user_module):
    before = arrays.to_dict()

    other = chained(arrays, user_module(NOISE))

    assert arrays.to_dict() == before
    assert other.to_dict() != before
    assert arrays.shuffle(1) is not arrays


def test_a_dataset_cannot_be_changed(arrays):
    with pytest.raises(FrozenInstanceError):
        arrays.declaration = None
    with pytest.raises(ValueError, match="frozen"):
        arrays.batch(3).declaration.batch.size = 4


def test_what_was_said_last_counts(arrays):
    assert arrays.batch(3).shuffle(1).batch(4).shuffle(2).to_dict() == arrays.shuffle(2).batch(4).to_dict()


def test_a_chain_does_what_it_says(arrays, user_module):
    dataset = chained(arrays, user_module(NOISE))

    assert dataset.spec == {
        "x": FieldSpec((6, 6, 2), "float64"),
        "label": FieldSpec((10,), "float32"),
        "weight": FieldSpec((), "float32"),
    }
    assert (dataset.samples, dataset.batches_per_epoch) == (10, 3)
    assert {name: array.shape[0] for name, array in dataset.compute(2).items()} == {"x": 4, "label": 4, "weight": 4}


def test_nothing_is_read_while_a_dataset_is_declared(tmp_path):
    """A script declares on a machine that need not have the data: `check` and the workers open it."""
    declared = [
        Dataset.from_image_folder(tmp_path / "no").resize(8, 8).random_flip().shuffle(1).batch(4),
        Dataset.from_npy_files(tmp_path / "no").batch(4),
        Dataset.from_arrays(x=tmp_path / "no.npy").batch(4),
    ]

    assert [dataset.to_dict()["source"]["kind"] for dataset in declared] == ["image_folder", "npy_files", "arrays"]


# -- plain data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "carry", [lambda plain: json.loads(json.dumps(plain)), lambda p: msgpack.unpackb(msgpack.packb(p))]
)
def test_a_dataset_travels_as_plain_data(arrays, user_module, carry):
    dataset = chained(arrays, user_module(NOISE))

    returned = Dataset.from_dict(carry(dataset.to_dict()), dataset.tables)

    assert returned.to_dict() == dataset.to_dict()
    assert returned.key == dataset.key
    assert all(np.array_equal(returned.compute(1)[name], array) for name, array in dataset.compute(1).items())


def test_every_source_travels_as_plain_data(photos, npy_folder, user_module):
    module = user_module("source = [{'x': 1.0}, {'x': 2.0}]\n")
    for dataset in (
        Dataset.from_image_folder(photos, color="grayscale").resize(4, 4).batch(2),
        Dataset.from_npy_files(npy_folder, ids=["1", "7"], labels=[3, 4]).batch(1),
        Dataset.from_python(f"{module}:source").batch(2),
    ):
        returned = Dataset.from_dict(json.loads(json.dumps(dataset.to_dict())), dataset.tables)

        assert returned.key == dataset.key


def test_arrays_travel_beside_the_plain_data(arrays):
    lonely = Dataset.from_dict(arrays.batch(4).to_dict())

    with pytest.raises(DatasetError, match="names by their hash only: give them to from_dict, as `tables`"):
        lonely.compute(0)


def test_a_second_process_opens_a_dataset_with_the_index_of_the_first(photos):
    """One worker lists the folder; all others map its list."""
    declaration = Dataset.from_image_folder(photos).resize(4, 4).shuffle(1).batch(3).declaration
    first = Plan(declaration, {}.__getitem__)

    second = Plan(declaration, {}.__getitem__, first.index)

    assert second.key == first.key
    assert all(np.array_equal(second.compute(1)[name], rows) for name, rows in first.compute(1).items())


@pytest.mark.parametrize(
    "plain, told",
    [
        ({}, "^'source' is missing"),
        ({"source": {}}, "source: 'kind' is missing; there are 'arrays', 'generator', 'image_folder'"),
        (
            {"source": {"kind": "parquet"}},
            "source: there is no kind 'parquet'; there are 'arrays', 'generator', 'image_folder', 'keras', 'npy_files'",
        ),
        ({"source": {"kind": "image_folder"}}, "source.image_folder: 'path' is missing"),
        (
            {"source": {"kind": "image_folder", "path": "/a", "colour": 1}},
            "source.image_folder: there is no key 'colour'; did you mean 'color'",
        ),
        (
            {"transforms": [{"kind": "resizee"}]},
            "transforms.0: there is no kind 'resizee'; did you mean 'resize'",
        ),
        ({"transforms": [{"kind": "resize", "height": 4}]}, "transforms.0.resize: 'width' is missing"),
        (
            {"transforms": [{"kind": "random_flip", "chance": 1}]},
            "transforms.0.random_flip: there is no key 'chance'; there are 'field', 'horizontal'",
        ),
        (
            {"transforms": [{"kind": "map", "function": {"name": "no colon"}}]},
            "function.name: expected an import path",
        ),
        ({"batch": {"size": 0}}, "batch.size: input should be greater than or equal to 1, got 0"),
        (
            {"batch": {"size": 4, "remainder": "kept"}},
            "batch.remainder: input should be 'keep', 'drop' or 'pad', got 'kept'",
        ),
        ({"shuffle": {"seed": -1}}, "shuffle.seed: input should be greater than or equal to 0, got -1"),
        ({"shuffel": {}}, "there is no key 'shuffel'; did you mean 'shuffle'"),
    ],
)
def test_plain_data_that_is_wrong_is_refused_with_the_key_and_what_was_expected(plain, told):
    with pytest.raises(DatasetError, match=told):
        Dataset.from_dict({"source": {"kind": "image_folder", "path": "/a"}, **plain} if plain else {})


def test_an_error_shows_no_more_of_a_wrong_value_than_can_be_read():
    with pytest.raises(DatasetError) as refused:
        Dataset.from_dict({"source": {"kind": "image_folder", "path": ["x"] * 100_000}})

    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("size", [0, -1, 2.5, "many", 2**31])
def test_what_is_no_batch_size_is_refused(arrays, size):
    with pytest.raises(DatasetError, match=r"^batch: size: input should be"):
        arrays.batch(size)


def test_an_unknown_argument_is_refused(arrays):
    with pytest.raises(TypeError, match="unexpected keyword argument 'widht'"):
        arrays.resize(4, widht=4)


# -- the key ------------------------------------------------------------------------------------------------

VARIANTS = {
    "resize": [{"height": 5}, {"width": 5}, {"interpolation": "nearest"}],
    "center_crop": [{"height": 1}, {"width": 1}],
    "random_crop": [{"height": 1}, {"width": 1}],
    "random_resized_crop": [
        {"height": 5},
        {"width": 5},
        {"scale": (0.1, 1)},
        {"ratio": (1, 1)},
        {"interpolation": "area"},
    ],
    "random_flip": [{"horizontal": 0.4}, {"vertical": 0.4}],
    "rescale": [{"scale": 3}, {"offset": 1}],
    "normalize": [{"mean": 3}, {"mean": (1, 2)}, {"std": 3}],
}
BASICS = {"rescale": {"scale": 2}, "normalize": {"mean": 1, "std": 2}, "random_flip": {}}


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_key_changes_with_every_argument_of_a_transform(arrays, kind):
    basic = BASICS.get(kind, {"height": 2, "width": 2})

    keys = [getattr(arrays.batch(2), kind)(**{**basic, **variant}, field="x").key for variant in [{}, *VARIANTS[kind]]]

    assert len(set(keys)) == len(keys)


def test_the_key_changes_with_every_step(arrays):
    batched = arrays.batch(2)
    variants = [
        batched,
        batched.shuffle(0),
        batched.shuffle(1),
        arrays.batch(3),
        arrays.batch(2, "drop"),
        arrays.batch(2, "pad"),
        batched.one_hot("label", 10),
        batched.one_hot("label", 11),
        batched.cast("x", "float32"),
        batched.cast("label", "float32"),
        batched.cast("x", "float64"),
        batched.random_flip(field="x").rescale(2, field="x"),
        batched.rescale(2, field="x").random_flip(field="x"),
        Dataset.from_arrays(x=X, label=Y + 1).batch(2),
        Dataset.from_arrays(x=X, y=Y).batch(2),
        Dataset.from_arrays(x=X.reshape(10, 8), label=Y).batch(2),
        Dataset.from_arrays(x=X.view("int8"), label=Y).batch(2),
    ]

    assert len({dataset.key for dataset in variants}) == len(variants)


def test_equal_declarations_have_equal_keys(arrays):
    assert Dataset.from_arrays(x=X.copy(), label=Y.tolist()).shuffle(1).batch(2).key == arrays.batch(2).shuffle(1).key


def test_one_more_picture_a_changed_size_and_another_name_are_other_datasets(tmp_path):
    write_picture(tmp_path / "a/1.png", gradient(4, 4))
    write_picture(tmp_path / "a/2.png", gradient(4, 4))
    keys = [Dataset.from_image_folder(tmp_path).batch(1).key]

    write_picture(tmp_path / "b/3.png", gradient(4, 4))
    keys.append(Dataset.from_image_folder(tmp_path).batch(1).key)
    with (tmp_path / "b/3.png").open("ab") as file:
        file.write(b"\0")
    keys.append(Dataset.from_image_folder(tmp_path).batch(1).key)
    (tmp_path / "b/3.png").rename(tmp_path / "b/4.png")
    keys.append(Dataset.from_image_folder(tmp_path).batch(1).key)
    keys.append(Dataset.from_image_folder(tmp_path, color="grayscale").batch(1).key)

    assert len(set(keys)) == 5


def test_one_more_array_file_other_ids_and_other_labels_are_other_datasets(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.zeros(2))

    def key(**options):
        return Dataset.from_npy_files(tmp_path, **options).batch(1).key

    keys = [key(), key(ids=["0", "1"]), key(ids=["1", "0"]), key(labels=[1, 2, 3]), key(labels=[1, 2, 4])]
    np.save(tmp_path / "3.npy", np.zeros(2))
    keys.append(key())

    assert len(set(keys)) == 6


def test_a_file_of_arrays_that_was_written_again_is_another_dataset(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(5))
    before = Dataset.from_arrays(x=tmp_path / "x.npy").batch(1).key

    np.save(tmp_path / "x.npy", np.ones(5))
    os.utime(tmp_path / "x.npy", ns=(0, 1))

    assert Dataset.from_arrays(x=tmp_path / "x.npy").batch(1).key != before


def test_yesterdays_code_is_another_dataset(user_module, arrays):
    module = user_module(NOISE)
    mapped = arrays.map(f"{module}:noise").batch(2)
    before = mapped.key

    user_module(NOISE + "# today\n", name=module)

    assert arrays.map(f"{module}:noise").batch(2).key != before


def test_yesterdays_source_is_another_dataset(user_module):
    module = user_module("source = [{'x': 1.0}]\n")
    before = Dataset.from_python(f"{module}:source").batch(1).key

    user_module("source = [{'x': 22.0}]\n", name=module)

    assert Dataset.from_python(f"{module}:source").batch(1).key != before


def test_another_process_finds_the_same_key(npy_folder, user_module):
    """The client reckons with the key that a worker computes."""
    module = user_module(NOISE)
    script = (
        "import json, sys, numpy as np\n"
        "from loader_service import Dataset\n"
        "plain, labels = json.load(sys.stdin)\n"
        "tables = {plain['source']['labels']['table']: np.array(labels)}\n"
        "print(Dataset.from_dict(plain, tables).key)\n"
    )
    dataset = Dataset.from_npy_files(npy_folder, labels=Y).map(f"{module}:noise").shuffle(3).batch(4)

    told = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([dataset.to_dict(), Y.tolist()]),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.strip() == dataset.key


def test_the_tables_of_a_dataset_lie_under_their_hashes(arrays):
    assert all(TableRef.of(array).table == table for table, array in arrays.tables.items())


@pytest.mark.parametrize("dtype", [">f4", "<f4"])
def test_the_bytes_of_a_table_are_those_that_another_process_reads(dtype):
    """A table travels as bytes and the name of its dtype, which tells nothing of their order."""
    dataset = Dataset.from_arrays(x=np.arange(4, dtype=dtype))
    ref = dataset.declaration.source.fields["x"]

    copied = np.frombuffer(dataset.tables[ref.table].tobytes(), ref.dtype)

    assert copied.tolist() == [0, 1, 2, 3]


# -- for people ---------------------------------------------------------------------------------------------


def test_repr_shows_each_step_with_what_is_not_at_its_default(photos):
    dataset = Dataset.from_image_folder(photos).random_flip().random_resized_crop(8, 6, scale=(0.5, 1)).shuffle(3)
    dataset = dataset.map("os.path:join").batch(4, remainder="drop")

    assert repr(dataset) == (
        f"<Dataset image_folder(path={str(photos)!r}) -> random_flip() -> "
        "random_resized_crop(height=8, width=6, scale=(0.5, 1.0)) -> map(function='os.path:join') -> "
        "shuffle(seed=3) -> batch(size=4, remainder='drop')>"
    )


def test_repr_of_an_opened_dataset_says_what_was_found(photos):
    dataset = Dataset.from_image_folder(photos).resize(8, 8).batch(4)
    samples = dataset.samples

    assert repr(dataset).endswith(f"-> batch(size=4): {samples} samples, image: uint8 (8, 8, 3), label: int64 ()>")


def test_repr_tells_of_arrays_in_memory_what_they_are_and_not_what_they_hold(tmp_path):
    arrays = Dataset.from_arrays(x="x.npy", y=np.zeros((7, 2), np.float32))

    assert repr(arrays) == f"<Dataset arrays(fields={{x: {str(Path('x.npy').absolute())!r}, y: float32 (7, 2)}})>"
    assert repr(Dataset.from_npy_files(tmp_path, ["a", "bc"], [0, 1])).endswith("ids=2 names, labels=int64 (2,))>")


def test_repr_opens_nothing(tmp_path):
    assert "image_folder" in repr(Dataset.from_image_folder(tmp_path / "no"))


def test_inputs_and_targets_are_those_of_the_source(arrays):
    plan = arrays.batch(2, "pad").plan

    assert (plan.inputs, plan.targets) == (["x"], ["label"])


def test_without_known_names_all_fields_are_inputs_but_the_weight():
    plan = Dataset.from_arrays(left=X, right=X, y=Y).batch(4, "pad").plan

    assert (plan.inputs, plan.targets) == (["left", "right"], ["y"])
