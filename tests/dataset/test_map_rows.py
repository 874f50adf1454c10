"""A user's function on many samples at once."""

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch

X = np.arange(40, dtype="float32").reshape(20, 2)
CODE = """
import numpy as np

sizes = []

def double(rows):
    sizes.append(len(rows["x"]))
    return {**rows, "x": rows["x"] * 2}

def in_place(rows):
    rows["x"] += 1
    return {"x": rows["x"], "total": rows["x"].sum(axis=1)}

def noise(rows, rng):
    return {
        "x": rows["x"] + rng.normal(0, 0.1, 2),
        "u": rng.uniform(-1, 1, (3, 2)),
        "n": rng.integers(0, 5),
        "r": rng.random(),
    }

def centred(rows):
    return {"x": rows["x"] - rows["x"].mean(axis=0)}

def draws_itself(rows):
    return {"x": rows["x"] + np.random.random(rows["x"].shape)}

def one(rows):
    return {"x": rows["x"][:1]}

def odd(rows):
    return {"x": rows["x"].astype("float64") if (rows["x"] > 30).any() else rows["x"]}

def wide(rows):
    return {"x": np.zeros((len(rows["x"]), 3 if (rows["x"] > 30).any() else 2), "float32")}

def forgets(rows):
    return {"y": rows["x"]} if (rows["x"] > 30).any() else {"x": rows["x"], "y": rows["x"]}

def fails(rows):
    if (rows["x"] == 26).any():
        raise ValueError("26")
    return rows

def fails_together(rows):
    if len(rows["x"]) > 1:
        raise ValueError("too many")
    return rows

def means(rows):
    return {"x": rows["image"].mean(axis=(1, 2, 3))}

def nans(rows):
    return {"x": np.log(rows["x"] - 50)}
"""


@pytest.fixture
def code(user_module):
    return user_module(CODE)


@pytest.fixture
def arrays():
    return Dataset.from_arrays(x=X.copy()).batch(10)


def test_a_function_is_given_all_rows_of_a_task(arrays, code):
    import sys

    dataset = arrays.map_rows(f"{code}:double")

    batch = dataset.compute(1)

    assert np.array_equal(batch["x"], 2 * X[10:])
    assert sys.modules[code].sizes[-1] == 10


def test_a_function_may_change_in_place_what_it_is_given(code):
    x = X.copy()
    dataset = Dataset.from_arrays(x=x).map_rows(f"{code}:in_place").batch(20)

    first, again = dataset.compute(0), dataset.compute(0)

    assert np.array_equal(x, X)
    assert np.array_equal(first["x"], X + 1)
    assert np.array_equal(again["total"], (X + 1).sum(axis=1))


@pytest.mark.parametrize("before", [lambda d: d, lambda d: d.map("copy:copy"), lambda d: d.cast("x", "float64")])
def test_rows_are_the_same_however_they_are_cut(arrays, code, before):
    plan = before(arrays).map_rows(f"{code}:noise").rescale(2, field="x").shuffle(3).plan
    whole = plan.compute(1)

    for start, stop in [(0, 10), (4, 5), (2, 9)]:
        rows = plan.empty_rows(stop - start)
        plan.fill(1, start, stop, rows)
        assert all(np.array_equal(rows[name], whole[name][start:stop]) for name in ("x", "u", "n", "r"))


def test_each_row_and_each_epoch_draws_its_own_numbers(arrays, code):
    dataset = arrays.map_rows(f"{code}:noise").batch(20)

    batches = [dataset.compute(n) for n in range(2)]

    numbers = np.concatenate([batch[name].ravel() for batch in batches for name in ("u", "r")])
    assert len(np.unique(numbers)) == numbers.size == 2 * 20 * 7
    noise = np.concatenate([batch["x"] - X for batch in batches])
    assert 0.05 < noise.std() < 0.2
    assert set(np.concatenate([batch["n"] for batch in batches])) == set(range(5))
    assert np.abs(batches[0]["u"]).max() <= 1


def test_pictures_and_steps_of_every_kind_stand_before_and_behind(photos, code):
    pictures = Dataset.from_image_folder(photos).resize(8, 9).random_flip()
    dataset = pictures.map_rows(f"{code}:means").batch(7)

    batch = dataset.compute(0)

    assert dataset.spec["x"].shape == ()
    assert np.array_equal(batch["x"], pictures.batch(7).compute(0)["image"].mean(axis=(1, 2, 3)))


@pytest.mark.parametrize(
    ("function", "error", "told"),
    [
        (
            "one",
            DatasetError,
            r"map_rows: '{}:one' returned \(1, 2\) in field 'x' for 10 rows: expected one entry for each",
        ),
        (
            "odd",
            SpecMismatch,
            r"sample 15 \(row 15\): map_rows: '{}:odd' returned float64 in field 'x', and float32 of",
        ),
        ("wide", SpecMismatch, r"sample 15 .* returned rows of shape \(3,\) in field 'x', and \(2,\) of the first"),
        ("forgets", SpecMismatch, r"sample 15 .* returned no field 'x', and did of the first sample"),
        ("fails", SampleError, r"sample 13 \(row 13\): ValueError: 26"),
        (
            "fails_together",
            SampleError,
            r"samples 10 .. 19, of which each can be made alone: map_rows: .*: ValueError: too",
        ),
        ("missing", DatasetError, "has no attribute 'missing'"),
    ],
)
def test_what_a_function_must_not_do_is_told_with_the_sample(arrays, code, function, error, told):
    with pytest.raises(error, match=told.format(code)):
        arrays.map_rows(f"{code}:{function}").compute(1)


@pytest.mark.parametrize("function", ["centred", "draws_itself"])
def test_rows_that_depend_on_how_many_there_are_are_doubted(arrays, code, function):
    (sentence,) = arrays.map_rows(f"{code}:{function}").plan.doubts()

    assert sentence.startswith(f"map_rows: '{code}:{function}' makes other rows when it is given some at a time")


@pytest.mark.parametrize("function", ["double", "noise", "in_place"])
def test_a_function_that_treats_each_row_by_itself_raises_no_doubts(arrays, code, function):
    assert arrays.map_rows(f"{code}:{function}").plan.doubts() == []


def test_rows_of_different_lengths_are_refused_with_what_to_do(code):
    rows = Dataset.from_arrays(x=[np.zeros((k, 2), np.float32) for k in (3, 1, 2)])

    with pytest.raises(SpecMismatch, match=r"takes many samples at once, and field 'x' is \(1, 2\) in one of them and"):
        rows.map_rows(f"{code}:double").pad("x", most=9).batch(3).compute(0)


def test_explain_tells_what_is_done_to_many_rows_at_once(arrays, code):
    rows = arrays.rescale(2, field="x").map_rows(f"{code}:double").rescale(2, field="x")

    (together,) = rows.explain().plain["chains"]
    (mixed,) = rows.map("copy:copy").map_rows(f"{code}:double").explain().plain["chains"]

    assert [step["many_rows"] for step in together["steps"]] == [True] * 3
    assert together["many_rows"] == ["x"]
    assert [step["many_rows"] for step in mixed["steps"]] == [True, True, True, False, True]
    assert mixed["many_rows"] == []


# -- other functions of the user's: what they must not return ----------------------------------------------

ODD = """
import numpy as np

class Kept:
    def __init__(self):
        self.x = [np.full(3, k, np.float32) for k in range(6)]

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return {"x": self.x[i]}

def shifts(sample):
    sample["x"] += 1
    return sample

def odd(sample):
    return {"x": sample["x"].astype("int64" if sample["x"][0] < 4 else "float64")}

def divides(sample):
    with np.errstate(all="ignore"):
        return {"x": sample["x"] / sample["x"]}
"""


@pytest.fixture
def kept(user_module):
    module = user_module(ODD)
    return module, Dataset.from_python(f"{module}:Kept").batch(3)


def test_a_function_that_changes_a_sources_own_arrays_in_place_changes_a_copy(kept):
    module, dataset = kept
    shifted = dataset.map(f"{module}:shifts")

    first, again = shifted.compute(0), shifted.compute(0)

    assert first["x"][:, 0].tolist() == again["x"][:, 0].tolist() == [1, 2, 3]
    assert shifted.plan.doubts() == []


def test_another_dtype_of_an_odd_sample_is_refused_by_name(kept):
    module, dataset = kept

    with pytest.raises(SpecMismatch, match=r"sample 4 .*: map: '.*:odd' returned float64 in field 'x', and int64 of"):
        dataset.map(f"{module}:odd").rescale(2, field="x").compute(1)


def test_nan_that_a_function_makes_is_told_of_when_a_stream_is_opened(kept):
    module, dataset = kept

    (sentence,) = dataset.map(f"{module}:divides").plan.doubts()

    assert "returns NaN in field 'x' of the first sample, 3 times in 3 numbers, and was given none" in sentence
