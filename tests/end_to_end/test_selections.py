"""Selections in workers: who looks at samples, what is replaced, what is told. For the rest: test_every_kind.py."""

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest

KEEP = """
from pathlib import Path

def even(sample):
    with Path(__file__).with_name("looked").open("a") as file:
        file.write("x")
    return bool(sample["x"][0] % 8 == 0)
"""


@pytest.fixture
def module(user_module):
    return user_module("keep_even", KEEP)


def test_samples_are_looked_at_by_one_worker_alone(module, tmp_path):
    x = np.arange(600, dtype=np.float32).reshape(150, 4)
    dataset = Dataset.from_arrays(x=x).skip(10).filter(f"{module}:even").shuffle(1).batch(8)
    with loader_client.connect(workers=3) as loader:
        stream = loader.stream(dataset, prefetch=8)
        epochs = [*stream, *stream]

    assert (tmp_path / "user_code" / "looked").read_text() == "x" * 140
    assert digest(epochs) == expected_digest(dataset, range(len(epochs)))


def test_bad_samples_are_replaced_by_some_that_are_selected(pictures):
    for name in ("cat/000.png", "dog/003.jpg", "dog/004.png"):
        (pictures / name).write_bytes(b"")
    images = Dataset.from_image_folder(pictures).resize(8, 8)
    dogs = images.filter(label="dog")
    both = Dataset.concat(dogs.take(9), images.skip(30).take(9)).on_error("replace", most=1).shuffle(1).batch(6)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(both)
        epochs = [*stream, *stream]

        assert sorted(bad.id for bad in stream.replaced) == [40, 41]
        assert {int(i) for batch in epochs for i in batch.ids} <= {*range(37, 46), *range(104, 113)} - {40, 41}
        assert digest(epochs) == expected_digest(both, range(6))


def test_what_cannot_be_selected_is_told_by_the_worker(pictures):
    images = Dataset.from_image_folder(pictures).resize(8, 8)
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(DatasetError, match="filter: there is no class 'dogs'; did you mean 'dog'"):
            loader.stream(images.filter(label="dogs").batch(4))
        with pytest.raises(DatasetError, match="the samples of parts differ: part 1 has image: float32"):
            loader.stream(Dataset.concat(images, images.rescale(1 / 255)).batch(4))
