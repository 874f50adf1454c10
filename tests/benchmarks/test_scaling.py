"""What scaling and footprint count; nothing is timed here."""

import mmap
import os
import time

import numpy as np
import pytest

from benchmarks import footprint
from benchmarks.footprint import ARENA, BARS, Counted, beside_the_slots, ends
from benchmarks.scaling import CASES, Rows, worker_counts
from loader_service.protocol.arena import create_memory

MIB = 2**20


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])])
def test_workers_double_up_to_the_cores(cores, counts):
    assert worker_counts(cores) == counts


def test_as_many_bare_processes_stand_beside_the_workers():
    for case in CASES:
        numbers = [arm.at for arm in case.arms]
        if "worker" in case.name:
            assert [arm.name.partition(" ")[0] for arm in case.arms] == ["loader-service,", "floor:"]
            assert len(set(numbers)) == 1
        else:
            assert numbers == sorted(set(numbers))


def test_small_batches_are_asked_for_further_ahead():
    assert [Rows(rows).prefetch for rows in (1, 4096, 30_000, 500_000)] == [64, 64, 32, 8]


def test_memory_of_the_arena_is_not_counted_and_other_memory_is():
    name = ARENA.removeprefix("memfd:")
    before = beside_the_slots(os.getpid())

    arena = mmap.mmap(create_memory(name, 64 * MIB), 64 * MIB)
    arena[:: mmap.PAGESIZE] = bytes(len(range(0, 64 * MIB, mmap.PAGESIZE)))
    with_arena = beside_the_slots(os.getpid())
    other = mmap.mmap(-1, 64 * MIB)
    other[:: mmap.PAGESIZE] = bytes(len(range(0, 64 * MIB, mmap.PAGESIZE)))
    with_both = beside_the_slots(os.getpid())

    assert before > 1
    assert abs(with_arena - before) < 32
    assert with_both - with_arena > 32


def test_a_process_that_has_ended_takes_no_memory():
    assert beside_the_slots(2**22 + 1) == 0  # beyond the largest number that a process can have


def test_what_grows_shows_at_the_ends():
    assert ends([1.0] * 10 + [2.0] * 80 + [3.0] * 10) == (1.0, 3.0)
    assert ends([5.0]) == (5.0, 5.0)


def test_every_measure_has_a_bar():
    assert all(most > 0 for most in BARS.values())


class Slow:
    """Work whose rows take 10 ms of CPU each, and the first number that is drawn for them."""

    def fill(self, ids, rng, x, y):
        assert len(ids) == len(x) == len(y) == 1
        x[...], y[...] = rng.integers(256), ids
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass


def test_rows_of_photos_count_the_time_that_they_take_and_are_the_same_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(footprint, "TRAIN", Slow())
    source, size = Counted(str(tmp_path)), footprint.SIZE
    assert source.spent() == 0
    out = {"image": np.zeros((3, size, size, 3), np.uint8), "label": np.zeros(3, np.int64)}
    began = time.thread_time()
    source.read_rows(np.array([5, 2, 9]), out)
    source.read_rows(np.array([5]), {name: rows[:1] for name, rows in out.items()})

    assert 0.04 <= source.spent() <= time.thread_time() - began
    assert out["label"].tolist() == [5, 2, 9]
    for row, i in enumerate([5, 2, 9]):
        assert np.array_equal(source[i]["image"], out["image"][row])
