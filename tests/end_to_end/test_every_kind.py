"""What holds of every dataset, whatever it is made of: all of kinds.py are put to the same test."""

import os
import signal

import numpy as np
import pytest

import loader_client
from tests.end_to_end.kinds import KINDS, WHOLE_KINDS
from tests.faults.data import hash_of, hashes
from tests.faults.watch import status_of, workers_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def loaders(tmp_path_factory):
    """One with one worker, and one with three."""
    with loader_client.connect(workers=1) as one, loader_client.connect(workers=3) as three:
        yield one, three


@pytest.fixture(params={**KINDS, **WHOLE_KINDS})
def dataset(request, tmp_path):
    """One of every kind."""
    return {**KINDS, **WHOLE_KINDS}[request.param](tmp_path)


@pytest.fixture(params=KINDS)
def dataset_of_samples(request, tmp_path):
    """One of every kind whose source makes samples."""
    return KINDS[request.param](tmp_path)


def ids_of(batches):
    """Return the samples of some batches, without padding."""
    ids = np.concatenate([batch.ids for batch in batches])
    return ids[ids >= 0]


def test_two_epochs_are_what_compute_says_with_one_worker_and_with_three_one_of_which_is_killed(dataset, loaders):
    epoch = dataset.batches_per_epoch
    expected = hashes(dataset.compute(n) for n in range(2 * epoch))
    for loader in loaders:
        stream = loader.stream(dataset, prefetch=3)
        got = []
        for n in range(2 * epoch):
            got.append(hash_of(stream.take(n)))
            if loader is loaders[1] and n == epoch // 2:
                os.kill(workers_of(loader.address)[0], signal.SIGKILL)

        assert got == expected
        assert len(stream) == epoch
        stream.close()
    assert status_of(loaders[1].address)["workers_lost"] > 0


def test_an_epoch_has_each_sample_once_but_for_draws_and_the_next_one_another_order(dataset, loaders):
    stream = loaders[1].stream(dataset)
    first, second = ids_of(stream), ids_of(stream)
    batch = dataset.declaration.batch
    whole = batch is None or batch.remainder != "drop"

    assert len(first) == (stream.samples if whole else len(stream) * stream.batch_size)
    if not dataset.declaration.draws:
        assert len(set(first)) == len(first)
        assert len({*first, *second}) <= stream.samples
    if batch is not None or dataset.declaration.shuffle is not None:  # a Sequence has an order of its own
        assert first.tolist() != second.tolist()
    stream.close()


def test_a_state_goes_on_where_it_was_taken(dataset, loaders):
    stream = loaders[0].stream(dataset)
    stream.take(2)
    resumed = loaders[1].stream(dataset)
    resumed.load_state_dict(stream.state_dict())

    assert hash_of(next(iter(resumed))) == hash_of(dataset.compute(3))
    stream.close()
    resumed.close()


def test_shards_have_the_rows_of_the_whole_in_their_order_in_line_and_in_workers(dataset_of_samples, loaders):
    with loader_client.connect(workers=0) as inline:
        for n in (0, dataset_of_samples.batches_per_epoch - 1):
            shards = [
                [loader.stream(dataset_of_samples, shard=(rank, 2)) for rank in range(2)]
                for loader in (inline, loaders[1])
            ]
            parts = [[stream.take(n) for stream in streams] for streams in shards]

            assert np.array_equal(
                np.concatenate([part.ids for part in parts[0]]), dataset_of_samples.plan.compute(n)["ids"]
            )
            assert hashes(parts[0]) == hashes(parts[1])
            for stream in (*shards[0], *shards[1]):
                stream.close()


def test_the_spec_is_that_of_the_arrays(dataset_of_samples, loaders):
    stream = loaders[0].stream(dataset_of_samples)
    batch = stream.take(0)

    assert list(batch) == list(stream.spec)
    for name, field in stream.spec.items():
        shape = batch[name].shape
        assert batch[name].dtype == field.dtype
        assert shape[0] == len(batch.ids)
        if field.form == "dense":
            assert len(shape) == len(field.shape) + 1
            assert all(size in (None, got) for got, size in zip(shape[1:], field.shape, strict=True))
    stream.close()
