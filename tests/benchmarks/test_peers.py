"""Each arm that is installed does a tiny piece of work as the harness runs it, and is looked at by its examiner."""

import shlex
from argparse import Namespace
from functools import partial

import numpy as np
import pytest

from benchmarks import photos
from benchmarks.arms import Arm
from benchmarks.harness import arms_asked_for, command_of, run_in_process
from benchmarks.normalized import MEAN, STD, Normalized
from benchmarks.peers import LOADERS, loaders_of
from benchmarks.peers.spdl_loader import BatchesOfIds
from benchmarks.peers.tensorpack_loader import epoch
from benchmarks.sequences import BOUNDARIES, BUCKETED, steps
from tests.benchmarks.tiny import CASES, WORK

(CASE,) = CASES
SLOW = ("tf.data", "Keras", "Ray", "FFCV", "tensorpack", "PyTorch")  # seconds of imports
ARMS = [
    pytest.param(arm, marks=[pytest.mark.slow] if arm.name.startswith(SLOW) else [], id=arm.name) for arm in CASE.arms
]


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_does_the_work(arm):
    if not arm.is_here:
        pytest.skip(f"{arm.needs} is not installed")

    found = run_in_process("tests.benchmarks.tiny", CASE, arm, Namespace(seconds=0.1, longest=1.0))

    assert found["samples"] >= found["batches"] > 0


def test_an_arm_whose_package_is_missing_is_not_here():
    assert Arm("a", print).is_here and Arm("a", print, "json.decoder").is_here
    assert not Arm("a", print, "json.missing").is_here and not Arm("a", print, "missing.package").is_here


def test_a_peer_that_cannot_do_a_work_is_left_out():
    names = loaders_of(WORK).keys()

    assert not {"NVIDIA DALI on the CPU, 2 threads", "FFCV, 2 threads, a file of its own"} & names
    assert {"SPDL, 2 threads", "tensorpack, 2 processes", "tf.data service, 2 threads", "Ray Data, 2 workers"} <= names


def test_peers_that_batch_ids_themselves_are_given_no_buckets():
    assert not {"Grain, 2 threads", "Ray Data, 2 workers"} & loaders_of(BUCKETED).keys()


def test_the_short_form_has_ours_and_fewer_peers():
    short = arms_asked_for(CASE, Namespace(only=[], short=True))

    assert short[0] is CASE.arms[0]
    assert {arm.name for arm in short} < {arm.name for arm in CASE.arms}
    assert sum(loader.short for loader in LOADERS.values()) < len(LOADERS) / 2


def test_arms_are_chosen_by_any_of_several_texts_and_the_command_line_says_so():
    asked = Namespace(only=["Grain", "floor"], short=False, case="it's", seconds=2.0, repeats=1, longest=1.0)

    names = [arm.name for arm in arms_asked_for(CASE, asked)]

    assert names == [arm.name for arm in CASE.arms if arm is CASE.arms[0] or "Grain" in arm.name or "floor" in arm.name]
    assert len(names) > 2
    again = shlex.split(command_of("benchmarks", asked))
    assert [again[k + 1] for k, word in enumerate(again) if word in ("--only", "--case")] == ["it's", "Grain", "floor"]


def test_ids_come_in_batches_epoch_after_epoch_in_another_order():
    source = BatchesOfIds(WORK)

    first, second = ([ids for ids, _ in source] for _ in range(2))

    assert [len(ids) for ids in first] == [WORK.rows] * (WORK.samples // WORK.rows)
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(WORK.samples))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_a_batch_of_the_next_epoch_that_comes_early_is_kept_for_it():
    """tensorpack's processes overtake each other; its reader tells their epochs apart."""
    made = iter([(0, "a"), (1, "c"), (0, "b"), (1, "d")])
    early = []

    assert list(epoch(made, 0, [], early, 2)) == ["a", "b"]
    assert list(epoch(made, 1, early, [], 2)) == ["c", "d"]


def test_buckets_hold_every_sequence_once_in_batches_of_about_one_length():
    batches = BUCKETED.batches_of_ids(0)

    assert sorted(np.concatenate(batches)) == list(range(BUCKETED.samples))
    assert len(batches) == len(BUCKETED.batches_of_ids(1)) == BUCKETED.whole_batches
    lengths = np.diff(steps()[1])
    assert all(len(set(np.searchsorted(BOUNDARIES, lengths[ids]))) == 1 for ids in batches)


def test_normalised_photos_are_the_photos_in_other_numbers(monkeypatch):
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    monkeypatch.setattr(photos, "decoded", lambda i, paths: picture)
    x, levels = np.empty(*Normalized.x), np.empty(*photos.Train.x)
    write = partial(photos.Train.write, photos.TRAIN, 0)

    Normalized().write(0, np.random.default_rng(1), x)
    write(np.random.default_rng(1), levels)

    np.testing.assert_allclose(x, (levels - MEAN) / STD, atol=1e-5)
