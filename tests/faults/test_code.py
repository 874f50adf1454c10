"""Users edit their modules while a daemon with warm workers runs."""

import os
import signal

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest
from tests.faults.watch import workers_of

CODE = "def scale(sample):\n    return {{'x': sample['x'] * {factor}}}\n"
NUMBERS = Dataset.from_arrays(x=np.arange(64, dtype=np.float32))


def test_an_edit_takes_effect_under_a_new_key_against_one_warm_daemon(standing, user_module):
    before = workers_of(standing.address)
    digests, keys = [], []
    for factor in (2, 3, 2):
        user_module("augment", CODE.format(factor=factor))
        dataset = NUMBERS.map("augment:scale").shuffle(seed=1).batch(8)
        with loader_client.connect(standing.address) as loader:
            stream = loader.stream(dataset)
            digests.append(digest(stream))
            keys.append(stream.key)
        assert digests[-1] == expected_digest(dataset, range(8))
        assert keys[-1] == dataset.key

    assert len(set(keys)) == len(set(digests)) == 2
    assert (keys[0], digests[0]) == (keys[2], digests[2])
    assert workers_of(standing.address) == before


def test_two_runs_with_the_code_of_before_and_after_an_edit_do_not_mix(start_daemon, user_module):
    start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        user_module("augment", CODE.format(factor=2))
        before = NUMBERS.map("augment:scale").batch(8)
        old = loader.stream(before, prefetch=2)
        got = [old.take(n) for n in range(3)]
        expected = expected_digest(before, range(8))

        user_module("augment", CODE.format(factor=3))
        after = NUMBERS.map("augment:scale").batch(8)
        new = loader.stream(after, prefetch=2)

        assert digest(new) == expected_digest(after, range(8))
        assert digest([*got, *[old.take(n) for n in range(3, 8)]]) == expected


def test_a_worker_that_comes_after_an_edit_is_not_given_batches_of_before(start_daemon, user_module):
    """It could only import the new code: batches under the old key that are others would be worse than an error."""
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        user_module("augment", CODE.format(factor=2))
        stream = loader.stream(NUMBERS.map("augment:scale").batch(8), prefetch=1)
        stream.take(0)
        user_module("augment", CODE.format(factor=3))
        (worker,) = workers_of(daemon.address)
        os.kill(worker, signal.SIGKILL)

        with pytest.raises(DatasetError, match="was changed while it was being read: a new worker would make other"):
            for n in range(1, 8):
                stream.take(n)
        reopened = NUMBERS.map("augment:scale").batch(8)
        assert digest(loader.stream(reopened)) == expected_digest(reopened, range(8))
