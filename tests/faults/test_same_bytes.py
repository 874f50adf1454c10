"""Same bytes, always: an epoch is what `compute` says, whoever made it, however it was cut, whatever happened.

One dataset draws random numbers in every way that a user's function can; batches of the other come in bundles.
"""

import contextlib
import os
import random
import signal
import threading

import numpy as np
import pytest

import loader_client
from tests.faults.data import DATASETS, hash_of, hashes, noisy
from tests.faults.watch import status_of, workers_of

EPOCH = 30  # batches
DATASET = noisy()


@pytest.fixture(scope="module", params=["noise", "bundles"])
def dataset(request):
    return DATASETS[request.param]()


@pytest.fixture(scope="module")
def expected(dataset):
    """The hashes of two epochs."""
    return hashes(dataset.compute(n) for n in range(2 * dataset.batches_per_epoch))


def test_noise_differs_between_samples_between_epochs_and_between_its_generators():
    """Otherwise everything below could hold of constants."""
    noise = [DATASET.compute(n)["noise"] for n in range(2 * EPOCH)]

    assert len(np.unique(np.concatenate(noise))) == 2 * 240 * 4


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_for_any_number_of_workers(dataset, expected, workers):
    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(dataset)

        assert hashes([*stream, *stream]) == expected


@pytest.mark.parametrize("seconds", [0, 0.0005, 1000], ids=["one row", "part of a batch", "all that is asked for"])
def test_for_any_size_of_tasks(dataset, expected, start_patched, seconds):
    start_patched(f"import loader_service.pool.scheduler as rules; rules.SHORTEST = rules.LONGEST = {seconds}")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset, prefetch=EPOCH)

        assert hashes([*stream, *stream]) == expected


@pytest.mark.parametrize("prefetch", [1, 2 * EPOCH])
def test_for_any_prefetch(dataset, expected, prefetch):
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset, prefetch=prefetch)

        assert hashes([*stream, *stream]) == expected


def test_after_kills_scaling_and_a_new_daemon_in_one_run(start_daemon, dataset, expected):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset)
        got = [hash_of(stream.take(n)) for n in range(7)]
        os.kill(workers_of(daemon.address)[0], signal.SIGKILL)
        got += [hash_of(stream.take(n)) for n in range(7, 19)]
        daemon.command("scale", "4")
        got += [hash_of(stream.take(n)) for n in range(19, 31)]
        daemon.process.kill()
        daemon.process.wait()
        daemon = start_daemon("--workers", "1")
        got += [hash_of(stream.take(n)) for n in range(31, 45)]
        daemon.command("scale", "3")
        for pid in workers_of(daemon.address):
            os.kill(pid, signal.SIGKILL)
        got += [hash_of(stream.take(n)) for n in range(45, 60)]

    assert got == expected[:60]


def test_while_workers_are_killed_at_random_moments(standing, dataset, expected):
    draw, got, over = random.Random(1), [], threading.Event()
    lost = status_of(standing.address)["workers_lost"]
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(dataset, prefetch=3)

        def read():
            while not over.is_set():
                stream.move(0)
                got.append(hashes([*stream, *stream]))

        reader = threading.Thread(target=read)
        reader.start()
        while status_of(standing.address)["workers_lost"] < lost + 20:
            over.wait(draw.uniform(0, 0.1))
            with contextlib.suppress(ProcessLookupError, IndexError):  # it has been dead for a moment; or all are
                os.kill(draw.choice(workers_of(standing.address)), signal.SIGKILL)
        over.set()
        reader.join()

    assert got == [expected] * len(got)


def test_from_a_state_of_any_batch():
    dataset = noisy(batch=24)
    expected = hashes(map(dataset.compute, range(10)))
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        state = stream.state_dict()
        for n in range(10):
            stream.load_state_dict({**state, "n": n})

            assert hashes(stream) == expected[n:], n


@pytest.mark.parametrize("count", [2, 4])
def test_for_shards_put_together(count):
    expected = hashes(map(DATASET.compute, range(EPOCH)))
    with loader_client.connect(workers=2) as loader:
        streams = [loader.stream(DATASET, prefetch=2, shard=(rank, count)) for rank in range(count)]
        got = []
        for n in range(EPOCH):
            parts = [stream.take(n) for stream in streams]
            got.append(hash_of({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}))

    assert got == expected
