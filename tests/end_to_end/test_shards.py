"""Several trainers of one model: each gets its rows of every batch."""

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest


@pytest.fixture
def wide(pictures):
    """Batches that two and four shards can cut; the last one of an epoch has 14 rows."""
    ds = Dataset.from_image_folder(pictures).random_resized_crop(16, 16).random_flip()
    return ds.shuffle(seed=7).batch(20)


def together(batches):
    """Return one batch of the parts of several shards."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_put_together_are_the_global_batches(wide, workers, count):
    with loader_client.connect(workers=workers) as loader:
        streams = [loader.stream(wide, prefetch=3, shard=(rank, count)) for rank in range(count)]
        batches = [[stream.take(n) for stream in streams] for n in range(8)]

        assert digest(map(together, batches)) == expected_digest(wide, range(8))
        for n, parts in enumerate(batches):
            ids = np.concatenate([part.ids for part in parts])
            assert np.array_equal(ids, wide.plan.compute(n)["ids"])
        assert {stream.batch_size for stream in streams} == {20 // count}
        assert {len(stream) for stream in streams} == {4}


def test_the_short_last_batch_is_cut_as_evenly_as_it_goes(wide):
    with loader_client.connect(workers=1) as loader:
        streams = [loader.stream(wide, shard=(rank, 2)) for rank in range(2)]
        last = [stream.take(3) for stream in streams]

    assert [len(batch.ids) for batch in last] == [7, 7] == [streams[0].rows(3), streams[1].rows(3)]


def test_padding_gives_every_shard_full_batches(pictures):
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).shuffle(1).batch(16, remainder="pad")
    with loader_client.connect(workers=2) as loader:
        streams = [loader.stream(dataset, shard=(rank, 4)) for rank in range(4)]
        epoch = [list(stream) for stream in streams]

    assert {len(batch["label"]) for part in epoch for batch in part} == {4}
    real = np.concatenate([batch.ids for part in epoch for batch in part])
    assert sorted(real[real >= 0]) == list(range(74))
    assert sum(batch["weight"].sum() for part in epoch for batch in part) == 74


def test_a_state_goes_on_with_another_number_of_shards(wide):
    with loader_client.connect(workers=1) as loader:
        two = loader.stream(wide, shard=(0, 2))
        for _ in zip(range(2), two, strict=False):
            pass
        four = loader.stream(wide, shard=(3, 4))
        four.load_state_dict(two.state_dict())

        assert four.cursor == two.cursor
        assert np.array_equal(next(iter(four)).ids, wide.plan.compute(two.cursor)["ids"][15:20])


def test_batches_that_cannot_be_cut_are_refused_when_the_stream_is_opened(wide):
    for workers in (0, 1):
        with loader_client.connect(workers=workers) as loader:
            with pytest.raises(DatasetError, match="cannot be cut into 3 equal shards"):
                loader.stream(wide, shard=(0, 3))


@pytest.mark.parametrize("shard", [(2, 2), (0,), "first", (0.5, 2)])
def test_what_is_no_shard_says_what_one_looks_like(wide, shard):
    with loader_client.connect(workers=0) as loader:
        with pytest.raises(ValueError, match=r"expected \(rank, count\), with rank from 0 to count - 1"):
            loader.stream(wide, shard=shard)
