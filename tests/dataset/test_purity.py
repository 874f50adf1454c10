"""Code of a user's that is no pure function is told of before anything is trained."""

import random

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.purity import doubts, same

SOURCE = """
import random
import numpy as np

own = np.random.default_rng(0)

def pure(sample):
    return {"x": sample["x"] + random.random() + np.random.random()}

def asks_for_rng(sample, rng):
    return {"x": sample["x"] + rng.random()}

def draws_from_its_own(sample):
    return {"x": sample["x"] + own.random()}

def seeds_numpy(sample):
    np.random.seed(42)
    return {"x": sample["x"] + np.random.random()}

def seeds_random(sample):
    random.seed(42)
    return {"x": sample["x"] + random.random()}

class Rows:
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return {"x": np.float32(i)}

    def read_rows(self, ids, out):
        out["x"][:] = ids + np.random.random(len(ids))
"""


@pytest.fixture
def told(user_module):
    """Return a function that tells what is doubted about a function of the user's."""
    module = user_module(SOURCE)
    numbers = Dataset.from_arrays(x=np.zeros((4, 2)))
    return lambda name: numbers.map(f"{module}:{name}").batch(2).plan.doubts()


@pytest.mark.parametrize("name", ["pure", "asks_for_rng"])
def test_a_pure_function_raises_no_doubts(told, name):
    assert told(name) == []


def test_a_function_with_a_generator_of_its_own_is_doubted(told):
    (sentence,) = told("draws_from_its_own")

    assert ":draws_from_its_own' makes another sample each time" in sentence


@pytest.mark.parametrize(("name", "module"), [("seeds_numpy", "numpy.random"), ("seeds_random", "random")])
def test_a_function_that_gives_all_samples_the_same_random_numbers_is_doubted(told, name, module):
    (sentence,) = told(name)

    assert f"seeds `{module}` itself" in sentence


def test_rows_that_depend_on_how_many_are_read_at_once_are_doubted(user_module):
    (sentence,) = Dataset.from_python(f"{user_module(SOURCE)}:Rows").batch(2).plan.doubts()

    assert "read_rows" in sentence


def test_the_generators_of_the_process_are_as_they_were():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)

    list(doubts("it", lambda position: {"x": random.random() + np.random.random() + position}))

    assert (random.random(), np.random.random()) == expected


def test_samples_are_compared_to_the_byte():
    assert same({"x": np.float32("nan")}, {"x": np.float32("nan")})
    assert not same({"x": np.float32(0)}, {"x": np.float64(0)})
    assert not same({"x": np.zeros(2)}, {"y": np.zeros(2)})
