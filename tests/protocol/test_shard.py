"""Shards put together are the whole batch, and each has its part of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.shard import Shard
from loader_service.protocol.spec import DatasetInfo


def info_of(samples, batch_size, remainder="keep"):
    whole, rest = divmod(samples, batch_size)
    batches = whole + (1 if rest and remainder != "drop" else 0)
    short = [rest] if rest and remainder != "drop" else []
    return DatasetInfo("key", {}, batch_size, samples, batches, True, [], [], [], remainder, short)


@given(st.integers(1, 64), st.integers(0, 10_000))
def test_shards_put_together_are_all_rows_once_and_in_order(count, rows):
    parts = [Shard(rank, count).of(rows) for rank in range(count)]

    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 16), st.integers(1, 16), st.integers(0, 500), st.sampled_from(["keep", "drop", "pad"]))
def test_what_passes_the_check_gives_every_shard_rows_in_every_batch(count, each, more, remainder):
    info = info_of(count * each + more, count * each, remainder)
    try:
        Shard(0, count).check(info)
    except DatasetError:
        assert remainder == "keep"
        assert 0 < info.samples % info.batch_size < count
        return
    for n in range(info.batches_per_epoch):
        parts = [len(Shard(rank, count).of(info.rows(n))) for rank in range(count)]
        assert min(parts) > 0
        if info.rows(n) == info.batch_size:
            assert set(parts) == {each}


def test_batches_that_cannot_be_cut_evenly_are_refused_with_what_would_do():
    with pytest.raises(
        DatasetError, match=r"batches of 64 rows cannot be cut into 3 equal shards: use .batch\(\) with"
    ):
        Shard(0, 3).check(info_of(640, 64))
    with pytest.raises(DatasetError, match=r'has 1 rows, too few for 2 shards: use .batch\(..., remainder="drop"\)'):
        Shard(0, 2).check(info_of(65, 64))


@pytest.mark.parametrize("rank, count", [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_is_none_is_refused(rank, count):
    with pytest.raises(ValueError):
        Shard(rank, count)
