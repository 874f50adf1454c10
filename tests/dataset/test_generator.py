import pytest

from loader_service.dataset.dataset import Dataset
from loader_service.protocol.errors import DatasetError, SampleError

NUMBERS = """
import numpy as np


def numbers():
    for number in range(5):
        yield np.full(2, number), np.float32(number)


def named():
    yield from ({"x": np.full(2, number), "label": number % 2} for number in range(5))


def breaks():
    yield from numbers()
    raise OSError("the sensor is gone")


def nothing():
    return []


def tenfold(sample):
    return {**sample, "x": sample["x"] * 10}
"""


def firsts(dataset, batches):
    return [dataset.compute(n)["x"][:, 0].tolist() for n in range(batches)]


@pytest.mark.parametrize("function", ["numbers", "named"])
def test_what_it_yields_next_is_the_next_sample_and_it_begins_anew_where_it_ends(user_module, function):
    dataset = Dataset.from_generator(f"{user_module(NUMBERS)}:{function}", samples=6).batch(3)

    assert (dataset.samples, dataset.batches_per_epoch) == (6, 2)
    assert firsts(dataset, 4) == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]
    assert dataset.plan.info.live


def test_opening_it_takes_nothing_from_it(user_module):
    """The first sample is the model of all others, and what functions are tried with."""
    module = user_module(NUMBERS)
    dataset = Dataset.from_generator(f"{module}:numbers", samples=5).map(f"{module}:tenfold").batch(5)

    assert not dataset.plan.doubts()
    assert firsts(dataset, 2) == [[0, 10, 20, 30, 40]] * 2


def test_its_samples_have_inputs_and_targets(user_module):
    module = user_module(NUMBERS)
    for function, names in (("numbers", ["x", "y"]), ("named", ["x", "label"])):
        info = Dataset.from_generator(f"{module}:{function}", samples=5).batch(5).plan.info
        assert [*info.inputs, *info.targets] == list(info.spec) == names


def test_one_that_raises_is_an_error_that_names_it_and_so_is_asking_again(user_module):
    dataset = Dataset.from_generator(f"{user_module(NUMBERS)}:breaks", samples=10).batch(5)
    dataset.compute(0)

    with pytest.raises(SampleError, match=r"from user_module_\d+:breaks\): OSError: the sensor is gone"):
        dataset.compute(1)
    with pytest.raises(SampleError, match="has ended, since it raised an error: open another stream"):
        dataset.compute(2)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda given: given("nothing").batch(5), "nothing has yielded nothing"),
        (
            lambda given: given("numbers").shuffle(seed=1).batch(5),
            r"live samples have no numbers: leave .shuffle\(\) out",
        ),
        (lambda given: given("numbers").on_error("replace").batch(5), r"no numbers: leave .on_error\(\) out"),
        (lambda given: given("np").batch(5), "np' is module, expected a function"),
        (lambda given: given("numbers", samples=0), "samples: input should be greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(user_module, make, told):
    module = user_module(NUMBERS)

    with pytest.raises(DatasetError, match=told):
        make(lambda name, samples=10: Dataset.from_generator(f"{module}:{name}", samples=samples)).compute(0)
