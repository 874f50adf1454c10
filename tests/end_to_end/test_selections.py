"""Selected, drawn, put together and mixed: what arrives is what `compute` says, whoever makes it, whatever happens."""

import os
import signal

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest
from tests.faults.watch import workers_of

KEEP = """
from pathlib import Path

import numpy as np

def odd(sample):
    with Path(__file__).with_name("looked").open("a") as file:
        file.write("x")
    return bool(sample["x"].sum() % 2)

def noise(sample, rng):
    return {**sample, "x": sample["x"] + rng.normal(size=4).astype(np.float32)}
"""


@pytest.fixture
def module(user_module):
    return user_module("keep_and_noise", KEEP)


@pytest.fixture
def datasets(module, pictures):
    """A dataset of each kind, of batches that two shards can cut; all of them random in the rows, too."""
    x = np.arange(600, dtype=np.float32).reshape(150, 4)
    x[::3] += np.asarray([1, 0, 0, 0], np.float32)
    rows = Dataset.from_arrays(x=x, label=np.arange(150) ** 2 % 7).map(f"{module}:noise")
    images = Dataset.from_image_folder(pictures)
    crops, resized = images.random_resized_crop(8, 8), images.resize(8, 8)
    train, validation = rows.split(0.3, seed=1, stratify="label")
    selected = {
        "filter": rows.skip(10).filter(f"{module}:odd").filter(label=[0, 1, 4]),
        "train": train,
        "validation": validation,
        "balanced": rows.balanced("label"),
        "weighted": rows.weighted(np.arange(150), samples=90),
        "concat": Dataset.concat(resized.filter(label="dog"), crops.take(31)).random_flip(),
        "mix": Dataset.mix([crops, resized.filter(label="cat").balanced()], [1, 2]).random_flip(),
    }
    unshuffled = {"validation", "weighted"}
    return {name: (part if name in unshuffled else part.shuffle(3)).batch(8, "pad") for name, part in selected.items()}


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_that_compute_says(datasets, workers):
    with loader_client.connect(workers=workers) as loader:
        for name, dataset in datasets.items():
            stream = loader.stream(dataset, prefetch=4)
            epochs = [*stream, *stream]

            assert (stream.key, stream.samples, len(stream)) == (dataset.key, dataset.samples, len(epochs) // 2), name
            assert digest(epochs) == expected_digest(dataset, range(len(epochs))), name
            for batch in epochs:
                assert np.array_equal(batch.ids, dataset.plan.compute(batch.n)["ids"]), name


def test_a_resumed_run_in_two_shards_of_which_workers_are_killed_gets_the_same_batches(datasets, start_daemon):
    daemon = start_daemon("--workers", "3")
    with loader_client.connect(daemon.address) as loader:
        for name in ("filter", "balanced", "concat", "mix"):
            dataset = datasets[name]
            last = 2 * dataset.batches_per_epoch
            shards = [loader.stream(dataset, prefetch=2, shard=(rank, 2)) for rank in range(2)]
            state = {**shards[0].state_dict(), "n": 3}
            got = []
            for stream in shards:
                stream.load_state_dict(state)
            for n in range(3, last):
                if n == last - 3:
                    os.kill(workers_of(daemon.address)[0], signal.SIGKILL)
                parts = [stream.take(n) for stream in shards]
                got.append({field: np.concatenate([part[field] for part in parts]) for field in parts[0]})

            assert digest(got) == expected_digest(dataset, range(3, last)), name


def test_samples_are_looked_at_by_one_worker_alone(datasets, module, tmp_path):
    with loader_client.connect(workers=3) as loader:
        stream = loader.stream(datasets["filter"], prefetch=8)
        epochs = [*stream, *stream]

    assert (tmp_path / "user_code" / "looked").read_text() == "x" * 140
    assert digest(epochs) == expected_digest(datasets["filter"], range(len(epochs)))


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
