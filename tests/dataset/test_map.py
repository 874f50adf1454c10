import random

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.transforms.map import globals_kept, seed_globals

X = np.arange(20, dtype="float32").reshape(10, 2)

CODE = """
import random
import numpy as np

def noise(sample, rng):
    return {"x": sample["x"] + rng.random(2)}

def from_globals(sample):
    return {"x": np.array([np.random.rand(), random.random()])}

def in_place(sample):
    sample["x"] += 1
    sample["label"] = sample["x"].sum()
    return sample

def drops(sample):
    return {"total": sample["x"].sum()}

def big_endian(sample):
    return {"image": sample["x"].reshape(1, 2, 1).astype(">f4")}

def positional(sample, other=None, rng=None):
    return {"drawn": rng.integers(2**40)}
"""


@pytest.fixture
def code(user_module):
    return user_module(CODE)


@pytest.fixture
def arrays():
    return Dataset.from_arrays(x=X.copy()).shuffle(5).batch(4)


def by_id(dataset, epoch=0):
    """Return the values of field x of one epoch, by sample."""
    batches = [dataset.plan.compute(epoch * dataset.batches_per_epoch + n) for n in range(dataset.batches_per_epoch)]
    return {i: tuple(x) for batch in batches for i, x in zip(batch["ids"].tolist(), batch["x"], strict=True)}


@pytest.mark.parametrize("function", ["noise", "from_globals"])
def test_a_row_that_is_made_again_is_the_same_row(arrays, code, function):
    """A worker was killed, another makes its rows, in another order and alone."""
    plan = arrays.map(f"{code}:{function}").plan
    batch = plan.compute(1)

    for row in (3, 0, 2, 1):
        out = {name: np.empty_like(rows[:1]) for name, rows in batch.items()}
        plan.fill(1, row, row + 1, out)
        assert all(np.array_equal(out[name][0], rows[row]) for name, rows in batch.items())


@pytest.mark.parametrize("function", ["noise", "from_globals"])
def test_every_sample_and_every_epoch_draws_its_own_numbers(arrays, code, function):
    dataset = arrays.map(f"{code}:{function}")

    first, second = by_id(dataset, epoch=0), by_id(dataset, epoch=1)

    drawn = [np.subtract(x, X[i] if function == "noise" else 0) for i, x in [*first.items(), *second.items()]]
    assert len({value for pair in drawn for value in np.round(pair, 5).tolist()}) == 2 * 2 * len(X)


def test_another_seed_draws_other_numbers(arrays, code):
    dataset = arrays.map(f"{code}:noise")

    assert by_id(dataset.shuffle(6)) != by_id(dataset.shuffle(7))


def test_two_maps_in_one_chain_draw_different_numbers(user_module):
    module = user_module(
        "def a(sample, rng): return {**sample, 'a': rng.random()}\n"
        "def b(sample, rng): return {**sample, 'b': rng.random()}\n"
    )

    batch = Dataset.from_arrays(x=X).map(f"{module}:a").map(f"{module}:b").batch(10).compute(0)

    assert not np.isin(batch["a"], batch["b"]).any()


def test_an_argument_named_rng_is_filled_wherever_it_stands(arrays, code):
    assert arrays.map(f"{code}:positional").compute(0)["drawn"].dtype == np.int64


def test_a_function_may_change_in_place_what_it_is_given(code):
    """Keras users write `x -= mean`; the array in memory, or the mapped file, must not feel it."""
    x = X.copy()
    dataset = Dataset.from_arrays(x=x).map(f"{code}:in_place").batch(10)

    first, again = dataset.compute(0), dataset.compute(0)

    assert np.array_equal(x, X)
    assert np.array_equal(first["x"], X + 1)
    assert np.array_equal(again["x"], X + 1)
    assert first["label"].tolist() == (X + 1).sum(axis=1).tolist()


def test_fields_are_those_that_the_function_returns(arrays, code):
    dataset = arrays.map(f"{code}:drops")

    assert list(dataset.spec) == ["total"]
    assert dataset.spec["total"].dtype == "float32"
    assert list(dataset.compute(0)) == ["total"]


def test_fields_that_are_single_numbers_are_rows_too(arrays, code):
    """NumPy gives a copy of an entry where it gives a view of a row."""
    batch = Dataset.from_arrays(x=X).map(f"{code}:drops").rescale(2, field="total").batch(10).compute(0)

    assert batch["total"].tolist() == (2 * X.sum(axis=1)).tolist()


def test_transforms_may_follow_whatever_a_function_returns(code):
    dataset = Dataset.from_arrays(x=X).map(f"{code}:big_endian").random_flip(horizontal=1).batch(10)

    assert np.array_equal(dataset.compute(0)["image"], X[:, None, ::-1, None])


def test_seeding_depends_on_both_key_and_position():
    seen = set()
    with globals_kept():
        for key, position in [(1, 0), (1, 1), (2, 0), (2**64 - 1, 2**62)]:
            seed_globals(key, position)
            seen.add((random.random(), np.random.rand()))

    assert len(seen) == 4


def test_global_generators_are_given_back_even_after_an_error():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)

    with pytest.raises(ZeroDivisionError), globals_kept():
        seed_globals(3, 4)
        raise ZeroDivisionError

    assert (random.random(), np.random.rand()) == expected
