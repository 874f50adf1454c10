import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.dataset import order as order_module
from loader_service.dataset.order import BLOCK, GivenOrder, OrderCache, ShuffledOrder

AROUND_POWERS_OF_TWO = [2**k + d for k in range(1, 41) for d in (-1, 0, 1)]


def whole(size, seed=7, epoch=0):
    return ShuffledOrder(size, seed, epoch).ids(np.arange(size))


@pytest.mark.parametrize("start", range(1, 4097, 1024))
def test_every_sample_has_one_position_whatever_the_size(start):
    """The whole promise of "each sample exactly once an epoch" stands on this."""
    for size in range(start, start + 1024):
        counts = np.bincount(whole(size), minlength=size)
        assert len(counts) == size, size
        assert (counts == 1).all(), size


@pytest.mark.skipif(order_module.kernel() is None, reason="the kernel is not built here")
@given(st.integers(0, 62), st.integers(1, 2**62), st.integers(0, 300), st.integers(0, 2**63 - 1), st.integers(0, 9))
def test_the_kernel_finds_what_numpy_finds(bits, number, count, start, seed):
    size = number % 2**bits + 1
    order = ShuffledOrder(size, seed, epoch=3)
    positions = (start + np.arange(count, dtype=np.uint64)).astype(np.int64) % size

    assert (order.ids(positions) == order.walked(positions)).all()


@pytest.mark.skipif(order_module.kernel() is None, reason="the kernel is not built here")
@pytest.mark.parametrize("size", AROUND_POWERS_OF_TWO)
def test_the_kernel_divides_as_numpy_does_at_every_size_of_digits(size):
    order = ShuffledOrder(size, seed=3, epoch=5)
    positions = np.random.default_rng(size).integers(0, size, 200)

    assert (order.ids(positions) == order.walked(positions)).all()


@pytest.mark.parametrize("size", AROUND_POWERS_OF_TWO)
def test_every_position_is_found_again_from_its_sample(size):
    """What can be undone is a bijection: the proof for sizes that cannot be listed."""
    order = ShuffledOrder(size, seed=3, epoch=5)
    ends = np.r_[0, size // 2, size - 1]
    positions = np.unique(np.r_[ends, np.random.default_rng(size).integers(0, size, 200)])

    ids = order.ids(positions)

    assert ids.min() >= 0
    assert ids.max() < size
    assert (order.positions(ids) == positions).all()


def test_the_order_of_a_run_stays_the_same_for_ever():
    """A state that was saved under an older version must go on with the same samples."""
    assert whole(10, seed=7, epoch=0).tolist() == [7, 3, 4, 9, 2, 5, 1, 6, 0, 8]
    assert ShuffledOrder(10**12, seed=7, epoch=3).ids(np.arange(4)).tolist() == [
        840807103486,
        95300875980,
        109339097684,
        840115855098,
    ]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(whole(100, seed, epoch).tolist()) for seed, epoch in itertools.product(range(10), range(10))}

    assert len(orders) == 100


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_order_of_a_few_samples_occurs_about_equally_often(size):
    """Expected chi-square: one less than the number of orders; five deviations are allowed."""
    orders = list(itertools.permutations(range(size)))
    runs = 40 * len(orders)
    counts = Counter(tuple(whole(size, seed).tolist()) for seed in range(runs))

    chi_square = sum((counts[order] - 40) ** 2 / 40 for order in orders)

    freedom = len(orders) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [13, 64, 100])
def test_every_sample_stands_at_every_position_about_equally_often(size):
    """Over many epochs; a weak network would leave digits together."""
    epochs = 20 * size
    table = np.zeros((size, size))
    for epoch in range(epochs):
        table[np.arange(size), whole(size, seed=1, epoch=epoch)] += 1

    chi_square = ((table - 20) ** 2 / 20).sum()

    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_neighbours_do_not_stay_together():
    """Samples lie sorted by class: an order that kept runs would make batches of one class."""
    steps = np.abs(np.diff(whole(10_000)))

    assert 3000 < steps.mean() < 3700  # a third of the size, where neighbours are independent
    assert (steps == 1).sum() < 10


@given(st.integers(1, 3 * BLOCK), st.integers(0, 2**63 - 1), st.data())
def test_the_cache_answers_as_the_order_does(size, seed, data):
    cache = OrderCache(size, seed)

    for _ in range(data.draw(st.integers(1, 6))):
        epoch = data.draw(st.integers(0, 5))
        start = data.draw(st.integers(0, size))
        stop = data.draw(st.integers(start, min(size, start + 200) if data.draw(st.booleans()) else size))

        ids = cache.ids(epoch, start, stop)

        assert ids.tolist() == ShuffledOrder(size, seed, epoch).ids(np.arange(start, stop)).tolist()


def test_the_cache_of_a_huge_order_answers_in_no_time():
    size = 10**12

    ids = OrderCache(size, 7).ids(0, size - 3, size)

    assert ids.tolist() == ShuffledOrder(size, 7, 0).ids(np.arange(size - 3, size)).tolist()


def test_the_cache_forgets_rather_than_grows():
    size = 20 * BLOCK
    cache = OrderCache(size, 7)

    everything = np.concatenate([cache.ids(0, start, start + BLOCK) for start in range(0, size, BLOCK)])

    assert sorted(everything.tolist()) == list(range(size))
    assert len(cache._blocks) <= 8


def test_without_a_seed_the_order_is_that_of_the_source():
    positions = np.arange(5, 9)

    assert OrderCache(100, None).ids(3, 5, 9).tolist() == [5, 6, 7, 8]
    assert GivenOrder(100).ids(positions).tolist() == GivenOrder(100).positions(positions).tolist() == [5, 6, 7, 8]
