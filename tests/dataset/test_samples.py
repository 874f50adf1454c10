"""What a sample may be: fields in groups, a spec that is declared, labels one-hot and back, every dtype."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.spec import DTYPES, FieldSpec
from tests.dataset.reference import assert_same, plain_batch

GROUPS = """
import numpy as np

class Patients:
    def __len__(self):
        return 7

    def __getitem__(self, i):
        scan = np.full((2, 2, 1), i, np.uint8)
        meta = {"age": np.float32(i), "place": {"x": np.int64(10 * i)}}
        return {"image": scan, "meta": meta, "label": np.int64(i % 2)}

def older(sample):
    assert list(sample) == ["image", "meta", "label"], list(sample)
    meta = sample["meta"]
    return {**sample, "meta": {**meta, "age": meta["age"] + 1, "place": {**meta["place"], "y": np.int8(3)}}}

def clash(sample):
    return {**sample, "meta/age": np.float32(1)}
"""


@pytest.fixture
def patients(user_module):
    return user_module(GROUPS)


def test_fields_within_dicts_have_whole_names(patients):
    dataset = Dataset.from_python(f"{patients}:Patients").batch(7)

    assert list(dataset.spec) == ["image", "meta/age", "meta/place/x", "label"]
    assert dataset.compute(0)["meta/place/x"].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_a_function_gets_dicts_within_dicts_and_returns_them(patients):
    dataset = Dataset.from_python(f"{patients}:Patients").map(f"{patients}:older").map(f"{patients}:older")
    dataset = dataset.rescale(0.5, field="meta/age").shuffle(1).batch(3)

    assert list(dataset.spec) == ["image", "meta/age", "meta/place/x", "meta/place/y", "label"]
    assert_same(dataset.compute(1), plain_batch(dataset, 1))
    assert sorted(np.concatenate([dataset.compute(n)["meta/age"] for n in range(3)])) == [1, 1.5, 2, 2.5, 3, 3.5, 4]


def test_two_values_for_one_field_are_refused_by_its_name(patients):
    dataset = Dataset.from_python(f"{patients}:Patients").map(f"{patients}:clash").batch(1)

    with pytest.raises(SampleError, match=r"Patients\[0\]\): field 'meta/age' is there twice"):
        dataset.compute(0)


def test_groups_named_x_and_y_are_what_a_model_gets(user_module):
    name = user_module(
        "import numpy as np\nclass Two:\n    def __len__(self): return 2\n"
        "    def __getitem__(self, i): return {'y': {'a': np.int64(i)}, 'x': {'l': np.ones(2), 'r': np.ones(3)}}\n"
    )

    plan = Dataset.from_python(f"{name}:Two").batch(2).plan

    assert (plan.inputs, plan.targets) == (["x"], ["y"])


# -- a declared spec ----------------------------------------------------------------------------------------


DECLARED = """
import numpy as np
from loader_service.protocol.spec import FieldSpec

class Declared:
    spec = {spec}
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return {{"x": np.zeros({shape}, "{dtype}"), "meta": {{"age": i}}}}
"""


def declared(
    user_module, spec='{"x": ((2, 3), "float32"), "meta": {"age": ((), "int64")}}', shape="(2, 3)", dtype="float32"
):
    name = user_module(DECLARED.format(spec=spec, shape=shape, dtype=dtype))
    return Dataset.from_python(f"{name}:Declared").batch(2)


def test_a_source_may_declare_its_spec(user_module):
    dataset = declared(user_module)

    assert dataset.spec == {"x": FieldSpec((2, 3), "float32"), "meta/age": FieldSpec((), "int64")}
    assert dataset.compute(1)["meta/age"].tolist() == [2, 3]


def test_what_fits_into_the_declared_dtype_is_cast(user_module):
    assert declared(user_module, dtype="uint8").compute(0)["x"].dtype == np.float32


@pytest.mark.parametrize(
    "sample, told",
    [
        ({"shape": "(2, 4)"}, r"sample 0 \(.*\[0\]\): field 'x' is float32 \(2, 4\), declared float32 \(2, 3\)"),
        ({"dtype": "float64"}, "field 'x' is float64, declared float32: the cast would lose something"),
        (
            {"spec": '{"x": ((2, 3), "float32"), "z": ((), "int8")}'},
            r"'z' is missing; the sample has \['x', 'meta/age'\]",
        ),
    ],
)
def test_a_sample_that_is_not_as_declared_is_refused_with_the_difference(user_module, sample, told):
    with pytest.raises(SpecMismatch, match=told):
        declared(user_module, **sample).compute(0)


@pytest.mark.parametrize("field", ["3", "((2, 3), 'text')", "((None, 3), 'int8')", "((2, -3), 'int8')", "(2, 3)"])
def test_a_spec_that_is_none_is_refused_with_what_was_expected(user_module, field):
    with pytest.raises(DatasetError, match=r"spec\['x'\] is .*, expected \(shape, dtype\), as in \(\(64, 64, 3\)"):
        declared(user_module, spec=f'{{"x": {field}}}').compute(0)


# -- one-hot, and back --------------------------------------------------------------------------------------


def test_smoothing_spreads_a_share_over_all_classes():
    labels = Dataset.from_arrays(label=np.asarray([0, 3])).one_hot("label", 4, smoothing=0.2).batch(2)

    batch = labels.compute(0)["label"]

    assert np.allclose(batch, [[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]])
    assert batch.dtype == np.float32


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_share_is_one_of_one(smoothing):
    with pytest.raises(DatasetError, match="one_hot: smoothing"):
        Dataset.from_arrays(label=np.zeros(2, int)).one_hot("label", 4, smoothing=smoothing)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_class_numbers_come_back_from_one_hot(user_module, shuffled, one_by_one):
    numbers = np.arange(12).reshape(6, 2) % 5
    dataset = Dataset.from_arrays(label=numbers).one_hot("label", 5, smoothing=0.1).class_index("label")
    if one_by_one:
        dataset = dataset.map("copy:copy").one_hot("label", 5).class_index("label")
    if shuffled:
        dataset = dataset.shuffle(2)
    dataset = dataset.batch(6)

    assert dataset.spec["label"] == FieldSpec((2,), "int64")
    assert_same(dataset.compute(0), plain_batch(dataset, 0))
    assert sorted(dataset.compute(0)["label"].tolist()) == sorted(numbers.tolist())


def test_class_numbers_of_single_labels_are_refused():
    with pytest.raises(DatasetError, match=r"class_index: field 'label' is int64 \(\), expected one entry for each"):
        Dataset.from_arrays(label=np.arange(3)).class_index("label").batch(1).compute(0)


# -- dtypes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(DTYPES | {"bfloat16"}))
@pytest.mark.parametrize("one_by_one", [False, True])
def test_every_dtype_goes_from_an_array_into_a_batch(dtype, one_by_one):
    x = (np.arange(12).reshape(4, 3) % 2).astype(np.dtype(dtype))
    dataset = Dataset.from_arrays(x=x)
    if one_by_one:
        dataset = dataset.map("copy:copy")

    got = dataset.shuffle(1).batch(4).compute(0)["x"]

    assert got.dtype == x.dtype
    assert sorted(got.astype(complex).real.tolist()) == sorted(x.astype(complex).real.tolist())


@pytest.mark.parametrize("before", ["uint8", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("after", ["float16", "bfloat16", "float32"])
def test_numbers_are_cast_to_half_the_size_and_back(before, after):
    x = np.asarray([[0, 1, 1], [1, 0, 1]]).astype(before)
    there = Dataset.from_arrays(x=x).cast("x", after)

    assert there.batch(2).spec["x"] == FieldSpec((3,), after)
    assert np.array_equal(there.batch(2).compute(0)["x"].astype(before), x)
    assert np.array_equal(there.rescale(1.0, field="x").batch(2).compute(0)["x"], x.astype("float32"))


def test_a_function_may_return_bfloat16(user_module):
    name = user_module(
        "import ml_dtypes, numpy as np\n"
        "def halve(sample):\n    return {'x': (sample['x'] / 2).astype(ml_dtypes.bfloat16)}\n"
    )
    dataset = Dataset.from_arrays(x=np.asarray([1.0, 3.0], np.float32)).map(f"{name}:halve").batch(2)

    assert dataset.compute(0)["x"].astype(float).tolist() == [0.5, 1.5]
    assert dataset.compute(0)["x"].dtype == ml_dtypes.bfloat16


def test_without_its_package_bfloat16_says_what_to_install():
    """It is not of NumPy, and a base install is without it."""
    script = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from loader_service import Dataset\n"
        "try: Dataset.from_arrays(x=[1.0]).cast('x', 'bfloat16')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert told.startswith(
        "DatasetError cast: dtype: dtype 'bfloat16' needs the package ml_dtypes: pip install ml_dtypes"
    )
