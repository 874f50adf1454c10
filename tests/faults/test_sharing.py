"""Several clients of one daemon: what they have in common is made once, and none of them is in another's way."""

import threading

import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from tests.faults.data import hashes, noisy, table
from tests.faults.watch import status_of
from tests.waiting import wait_until

DATASET = noisy()
SLOW = "import time\ndef slow(sample):\n    time.sleep(0.002)\n    return sample\n"


def counts(address, dataset):
    """Return how many batches were made of a dataset, and how many were lent to one more than they were made for."""
    (found,) = [each for each in status_of(address)["datasets"] if each["key"] == dataset.key]
    return found["batches_made"], found["batches_shared"]


def read_together(streams, epochs):
    """Have each stream read by a thread of its own; return the hashes that each has got."""
    got = [[] for _ in streams]

    def read(stream, into):
        for _ in range(epochs):
            into += hashes(stream)

    readers = [threading.Thread(target=read, args=pair) for pair in zip(streams, got, strict=True)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert not any(reader.is_alive() for reader in readers), "somebody waits for ever"
    return got


def test_four_clients_in_step_cost_the_making_of_one(standing):
    dataset = DATASET.shuffle(seed=1)
    loaders = [loader_client.connect(standing.address) for _ in range(4)]
    for batches in zip(*[loader.stream(dataset, prefetch=4) for loader in loaders], strict=True):
        assert len(set(hashes(batches))) == 1
        del batches
    made, shared = counts(standing.address, dataset)
    for loader in loaders:
        loader.close()

    assert 30 <= made <= 30 + 4  # an epoch, and what is asked for ahead of it
    assert shared >= 3 * 30


def test_four_clients_as_fast_as_they_can_get_the_same_bytes(standing):
    dataset = DATASET.shuffle(seed=2)
    loaders = [loader_client.connect(standing.address) for _ in range(4)]
    got = read_together([loader.stream(dataset) for loader in loaders], epochs=3)
    for loader in loaders:
        loader.close()

    assert got == [hashes(map(dataset.compute, range(90)))] * 4


def test_a_slow_client_falls_back_to_batches_of_its_own_and_blocks_nobody(standing):
    dataset = DATASET.shuffle(seed=3)
    with loader_client.connect(standing.address) as slow, loader_client.connect(standing.address) as fast:
        behind, ahead = slow.stream(dataset, prefetch=2), fast.stream(dataset)
        first = [behind.take(0), behind.take(1)]
        far = hashes([*ahead, *ahead, *ahead])
        before, _ = counts(standing.address, dataset)
        rest = hashes(behind.take(n) for n in range(2, 30))
        after, _ = counts(standing.address, dataset)

        assert far == hashes(map(dataset.compute, range(90)))
        assert hashes(first) + rest == far[:30]
        assert after - before >= 20, "what the fast one had was still there"


def test_a_greedy_client_does_not_starve_another(standing, user_module):
    """It has asked for seconds of work; who comes later with another dataset has a turn all the same."""
    user_module("slow", SLOW)
    numbers = Dataset.from_arrays(x=np.arange(4000, dtype=np.float32)).map("slow:slow").batch(10)
    greedy, modest = numbers, numbers.shuffle(seed=1)
    with loader_client.connect(standing.address) as one, loader_client.connect(standing.address) as other:
        much = one.stream(greedy, prefetch=200)
        reader = threading.Thread(target=much.take, args=(150,))
        reader.start()
        wait_until(lambda: sum(stream["waits_for"] for stream in status_of(standing.address)["streams"]) > 100)
        before, _ = counts(standing.address, greedy)

        little = other.stream(modest, prefetch=2)
        got = [little.take(n) for n in range(10)]
        after, _ = counts(standing.address, greedy)
        reader.join()

        assert hashes(got) == hashes(map(modest.compute, range(10)))
        assert after - before < 100


def test_training_and_validation_share_the_workers(standing):
    train, validation = DATASET, table()
    with loader_client.connect(standing.address) as loader:
        got = read_together([loader.stream(train), loader.stream(validation)], epochs=2)

    assert got == [hashes(map(train.compute, range(60))), hashes(map(validation.compute, range(30)))]


@pytest.mark.slow
@pytest.mark.slow
def test_training_and_validation_share_few_slots(start_daemon):
    daemon = start_daemon("--workers", "2", "--memory", "1 MiB")
    train, validation = noisy(batch=240), noisy(batch=120)
    with loader_client.connect(daemon.address) as loader:
        streams = [loader.stream(train, prefetch=20), loader.stream(validation, prefetch=20)]
        got = read_together(streams, epochs=20)

    assert got == [hashes(map(train.compute, range(20))), hashes(map(validation.compute, range(40)))]
