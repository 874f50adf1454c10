import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.dataset import draws
from loader_service.dataset.draws import mix, row_of_uniforms, stream_key, uniforms, unit

KEY = stream_key("draws", 7, 0, 0)


@given(st.integers(0, 2**40), st.integers(1, 40), st.integers(0, 30), st.data())
def test_a_row_depends_on_its_position_alone(first, rows, count, data):
    """However a batch is cut into tasks, and whoever makes them."""
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start, rows))
    positions = np.arange(first, first + rows)

    whole = uniforms(KEY, positions, count)

    assert (uniforms(KEY, positions[start:stop], count) == whole[start:stop]).all()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**48), st.integers(0, 12))
def test_a_row_drawn_without_numpy_is_that_row(key, position, count):
    assert row_of_uniforms(key, position, count) == uniforms(key, np.array([position]), count)[0].tolist()


def test_the_numbers_stay_the_same_for_ever():
    """Augmentation must go on as it was after an upgrade of NumPy, or of this."""
    assert mix(np.array([0, 1, 2**64 - 1], np.uint64), 42).tolist() == [
        12058926934050108962,
        13679457532755275413,
        7689814208194792879,
    ]
    assert uniforms(1, np.array([0, 5]), 2).tolist() == [
        [0.5665615751722809, 0.7457817572627011],
        [0.4041421690502257, 0.6054203689753291],
    ]


def test_the_mixing_is_that_of_splitmix64():
    """The published reference: state 1234567, first outputs (Vigna, splitmix64.c)."""
    outputs = mix(np.array([1, 2, 3], np.uint64), 1234567)

    assert outputs.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_the_numbers_are_uniform():
    numbers = uniforms(KEY, np.arange(10_000), 10).ravel()

    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert abs(chi_square - 99) < 5 * np.sqrt(2 * 99)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


@pytest.mark.parametrize("count", [1, 2, 22])
def test_neighbours_do_not_resemble_each_other(count):
    """Neighbouring positions share a batch; the numbers of one sample decide together."""
    numbers = uniforms(KEY, np.arange(20_000), count)

    assert len(np.unique(numbers)) == numbers.size
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03
    if count > 1:
        assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.03


@pytest.mark.parametrize("other", [("draws", 8, 0, 0), ("draws", 7, 1, 0), ("draws", 7, 0, 1), ("order", 7, 0, 0)])
def test_another_seed_epoch_or_transform_draws_other_numbers(other):
    positions = np.arange(1000)

    mine, others = uniforms(KEY, positions, 4), uniforms(stream_key(*other), positions, 4)

    assert not np.isin(mine, others).any()
    assert abs(np.corrcoef(mine.ravel(), others.ravel())[0, 1]) < 0.06


def test_parts_of_a_key_do_not_run_together():
    assert stream_key("a", 11) != stream_key("a", 1, 1)
    assert stream_key("a", "1") != stream_key("a", 1)


@pytest.mark.skipif(draws.kernel() is None, reason="the kernel is not built here")
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**48), st.integers(0, 20), st.integers(0, 24))
def test_the_kernel_draws_what_numpy_draws(key, first, rows, count):
    positions = np.arange(first, first + 2 * rows)[::2]

    numbers = uniforms(key, positions, count)

    assert numbers.shape == (rows, count)
    assert (numbers == unit(mix(np.add.outer(positions * count, np.arange(1, count + 1)).astype(np.uint64), key))).all()
