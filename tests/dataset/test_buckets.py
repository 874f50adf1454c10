"""Batches of samples of about one length: the order, as a function."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service import Dataset
from loader_service.dataset.buckets import BucketOrder, Buckets
from loader_service.protocol.errors import DatasetError

lengths = st.lists(st.integers(0, 30), min_size=1, max_size=60)
bounds = st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True).map(sorted)
seeds = st.sampled_from([None, 1, 2**62])


def rows(lengths):
    return [np.full(k, i, np.float32) for i, k in enumerate(lengths)]


@given(lengths, bounds, st.integers(1, 7), seeds, st.sampled_from(["keep", "pad"]), st.integers(0, 3))
def test_each_sample_comes_once_an_epoch_and_a_batch_is_of_one_bucket(lengths, bounds, size, seed, remainder, epoch):
    buckets = Buckets(field="x", boundaries=tuple(bounds))
    order = BucketOrder(buckets.make_index(np.asarray(lengths)), size, seed, remainder)

    numbers = order.numbers(epoch, np.arange(order.batches * size))

    whole = order.batches - len(order.short)
    batches = [numbers[b * size : (b + 1) * size] for b in range(whole)]
    batches += [numbers[(whole + k) * size :][:rest] for k, rest in enumerate(order.short)]
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(set(np.searchsorted(bounds, np.asarray(lengths)[batch]))) == 1
    assert all(0 < rest < size for rest in order.short)


@given(lengths, bounds, st.integers(1, 7), seeds, st.data())
def test_it_does_not_matter_which_positions_are_asked_for_together(lengths, bounds, size, seed, data):
    buckets = Buckets(field="x", boundaries=tuple(bounds))
    order = BucketOrder(buckets.make_index(np.asarray(lengths)), size, seed, "keep")
    whole = order.numbers(5, np.arange(order.batches * size))

    some = data.draw(st.lists(st.integers(0, order.batches * size - 1), max_size=10))

    assert order.numbers(5, np.asarray(some, np.int64)).tolist() == whole[some].tolist()


@pytest.fixture
def restless():
    """Threads take turns far more often than they do."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_threads_that_are_in_different_epochs_do_not_disturb_each_other():
    buckets = Buckets(field="x", boundaries=(3, 6))
    index = buckets.make_index(np.arange(300) % 10)
    positions = np.arange(0, 280, 40)
    expected = [BucketOrder(index, 8, 1, "keep").numbers(epoch, positions).tolist() for epoch in range(4)]
    order = BucketOrder(index, 8, 1, "keep")

    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda turn: order.numbers(turn % 4, positions).tolist(), range(8000))

        assert all(numbers == expected[turn % 4] for turn, numbers in enumerate(found))


def test_batches_and_what_is_in_them_are_shuffled_anew_each_epoch():
    dataset = Dataset.from_arrays(x=rows([k % 40 for k in range(400)])).bucket_by_length("x", [9, 19, 29, 39])
    dataset = dataset.pad("x", to="bucket").shuffle(1).batch(10)

    epochs = [[dataset.compute(n) for n in range(e * 40, e * 40 + 40)] for e in range(2)]

    shapes = [[batch["x"].shape[1] for batch in epoch] for epoch in epochs]
    assert {length: shapes[0].count(length) for length in set(shapes[0])} == {9: 10, 19: 10, 29: 10, 39: 10}
    assert shapes[0] != shapes[1]
    contents = [{frozenset(dataset.plan.compute(e * 40 + n)["ids"].tolist()) for n in range(40)} for e in range(2)]
    assert contents[0] != contents[1]


def test_an_order_that_is_not_shuffled_goes_through_the_buckets():
    dataset = Dataset.from_arrays(x=rows([5, 1, 6, 2, 7, 3])).bucket_by_length("x", [3]).pad("x").batch(2)

    assert [dataset.plan.compute(n)["ids"].tolist() for n in range(4)] == [[1, 3], [0, 2], [5], [4]]
    assert dataset.plan.info.short == [1, 1]


def test_a_bucket_may_stay_empty_and_short_batches_may_be_dropped_or_padded():
    table = Dataset.from_arrays(x=rows([1, 1, 1, 8, 8, 8, 8])).bucket_by_length("x", [2, 5]).pad("x")

    dropped, padded = table.batch(2, remainder="drop"), table.batch(2, remainder="pad")

    assert dropped.batches_per_epoch == 3
    assert padded.batches_per_epoch == 4
    assert padded.compute(3)["weight"].tolist() == [1, 0]
    assert padded.plan.compute(3)["ids"].tolist() == [2, -1]
    assert padded.plan.info.padding_before(3) == 0
    assert padded.plan.info.padding_before(9) == 2


def test_rows_are_padded_to_the_boundary_of_their_bucket_or_to_the_longest_beyond_the_last():
    table = Dataset.from_arrays(x=rows([1, 2, 7, 9])).bucket_by_length("x", [4, 5])

    assert [table.pad("x", to="bucket").batch(2).compute(n)["x"].shape for n in range(2)] == [(2, 4), (2, 9)]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda table: table.bucket_by_length("x", [3, 3]), r"buckets: boundaries: boundaries must rise, got \[3, 3\]"),
        (lambda table: table.bucket_by_length("x", []), r"buckets: boundaries: .* at least 1 item"),
        (
            lambda table: table.bucket_by_length("x", [3], lengths=[1]),
            r"lengths is int64 \(1,\), expected a whole number for",
        ),
        (
            lambda table: table.bucket_by_length("y", [3]),
            r"the source does not know how long field 'y' of each sample is",
        ),
        (lambda table: table.pad("x", to="bucket"), r'pad: to="bucket" needs buckets: say .bucket_by_length'),
        (
            lambda table: table.bucket_by_length("x", [3]).balanced("y"),
            r"bucket_by_length needs the same samples in each",
        ),
        (lambda table: table.bucket_by_length("x", [1, 2]).batch(4, "drop"), r"no bucket has the 4 samples of a batch"),
    ],
)
def test_what_cannot_be_is_told(made, told):
    table = Dataset.from_arrays(x=rows([1, 2, 3, 5]), y=np.arange(4) % 2)

    with pytest.raises(DatasetError, match=told):
        dataset = made(table)
        (dataset if dataset.declaration.batch else dataset.batch(2)).pad("x").compute(0)
