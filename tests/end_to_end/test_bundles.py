"""Small batches come several at a time from the daemon, and one by one to the reader."""

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loader_client
from loader_service import Dataset
from loader_service.dataset.whole import open_plan
from loader_service.protocol.errors import SampleError
from loader_service.protocol.layout import IDS
from tests.waiting import wait_until

ROWS, SAMPLES = 4, 1023
X = np.arange(SAMPLES * 6, dtype=np.float32).reshape(SAMPLES, 6)
PICTURES = np.random.default_rng(7).integers(0, 256, (777, 8, 8, 3), np.uint8)
LABELS = np.arange(SAMPLES) % 3


def table(remainder="keep", labels=LABELS):
    return Dataset.from_arrays(x=X, label=labels).one_hot("label", 3).shuffle(seed=7).batch(ROWS, remainder=remainder)


def same(sample):
    return sample


def assert_is(batch, dataset, n):
    expected = dataset.plan.compute(n)
    assert batch.n == n
    assert batch.epoch == n // dataset.plan.batches_per_epoch
    assert np.array_equal(batch.ids, expected.pop(IDS))
    assert list(batch) == list(expected)
    for name, array in expected.items():
        assert batch[name].dtype == array.dtype
        assert np.array_equal(batch[name], array)
        assert not batch[name].flags.writeable


@pytest.fixture(scope="module")
def loader():
    with loader_client.connect(workers=2) as loader:
        yield loader


KINDS = {
    "table": lambda folder: table(),
    "whole batches alone": lambda folder: table("drop"),
    "in the order of the file": lambda folder: Dataset.from_arrays(x=X).batch(ROWS),
    "flipped": lambda folder: Dataset.from_arrays(image=PICTURES).random_flip(vertical=0.5).shuffle(seed=3).batch(3),
    "packed": lambda folder: Dataset.from_pack(packed(folder)).shuffle(seed=3).batch(2),
    "drawn": lambda folder: Dataset.from_arrays(x=X).take(600).shuffle(seed=3).batch(2),
}


def packed(folder):
    ids = [f"{number:03}" for number in range(300)]
    for name, row in zip(ids, X, strict=False):
        np.save(folder / f"{name}.npy", row)
    Dataset.from_npy_files(folder, ids, LABELS[:300].tolist()).pack(folder / "table.pack")
    return folder / "table.pack"


@pytest.mark.parametrize("kind", KINDS)
def test_each_batch_is_what_it_would_be_by_itself(loader, tmp_path, kind):
    dataset = KINDS[kind](tmp_path)
    bundled = open_plan(dataset.declaration, lambda ref: dataset.tables[ref.table])
    bundled.bundle()
    assert bundled.info.bundle > 1
    with loader.stream(dataset) as stream:
        for epoch in range(3):
            for k, batch in enumerate(stream):
                assert_is(batch, dataset, epoch * len(stream) + k)
        assert stream.stats()["batches"] == 3 * len(stream) == 3 * dataset.plan.batches_per_epoch


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_any_batch_can_be_the_next_one(loader, numbers):
    dataset = table()
    with loader.stream(dataset) as stream:
        for n in numbers:
            assert_is(stream.take(n), dataset, n)
            assert_is(stream.take(n + 1), dataset, n + 1)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_some_batches_can_be_gone_over_again_and_again(loader, one, other, most):
    dataset, (first, last) = table(), sorted((one, other))
    with loader.stream(dataset) as stream:
        n = first
        for _ in range(60):
            bundle = stream.peek_several(n, min(most, last - n + 1), (first, last))
            for k in range(len(bundle)):
                expected = dataset.plan.compute(n + k)
                assert np.array_equal(bundle.ids[k], expected[IDS])
                assert np.array_equal(bundle.arrays["x"][k], expected["x"])
            n += len(bundle)
            n = first if n > last else n


def test_batches_that_are_kept_stay_as_they_are(loader):
    dataset = table()
    with loader.stream(dataset) as stream:
        kept = [stream.take(n) for n in range(0, 256, 3)]
        for _ in stream:
            pass
        for batch in kept:
            assert_is(batch, dataset, batch.n)


def test_a_sample_that_cannot_be_made_is_told_of_at_its_own_batch(loader):
    wrong = LABELS.copy()
    wrong[500] = 9
    dataset = table(labels=wrong)
    culprit = next(n for n in range(256) if 500 in dataset.plan.ids(0, n * ROWS, min(SAMPLES, (n + 1) * ROWS)))
    assert culprit % 4, "it is not the first one of its bundle"
    with loader.stream(dataset) as stream:
        for n in range(culprit):
            assert_is(stream.take(n), dataset, n)
        for _ in "ab":
            with pytest.raises(SampleError, match=r"(?s)sample 500.*9"):
                stream.take(culprit)
        assert_is(stream.take(culprit + 1), dataset, culprit + 1)
        assert stream.stats()["batches"] == culprit + 1


def test_status_and_explain_tell_which_batches_share_a_slot(start_daemon):
    daemon, found, explained = start_daemon("--workers", "1"), [], []
    with loader_client.connect(daemon.address) as loader:
        for dataset in (table(), table().map(f"{__name__}:same")):
            with loader.stream(dataset) as stream:
                for n in range(9):
                    stream.take(n)
                found += [told for told in daemon.status()["datasets"] if told["key"] == stream.key]
            explained.append(dataset.explain().plain["memory"])

    assert [told["batches_a_slot"] for told in found] == [4, 1]
    assert [told["batch_size"] for told in found] == [ROWS, ROWS]
    assert all(told["batches_made"] >= 9 for told in found)
    for told, memory in zip(found, explained, strict=True):
        slots = told["slots"]
        assert memory["batches_a_slot"] == told["batches_a_slot"]
        assert (memory["slots"], memory["nbytes"]) == (slots["count"], slots["count"] * slots["nbytes"])


def test_status_counts_the_batches_that_a_stream_waits_for(start_daemon):
    daemon, dataset = start_daemon("--workers", "1"), table()
    asked_ahead = dataset.explain().plain["memory"]["prefetch"]
    with loader_client.connect(daemon.address) as loader, loader.stream(dataset) as stream:
        stream.take(0)
        (worker,) = daemon.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        reader = threading.Thread(target=stream.take, args=(4000,))
        reader.start()
        try:
            wait_until(lambda: daemon.status()["streams"][0]["waits_for"] == asked_ahead)
        finally:
            os.kill(worker, signal.SIGCONT)
            reader.join()


def test_two_streams_share_bundles(start_daemon):
    daemon, dataset = start_daemon("--workers", "2"), table()
    with loader_client.connect(daemon.address) as one, loader_client.connect(daemon.address) as other:
        for first, second in zip(one.stream(dataset), other.stream(dataset), strict=True):
            assert_is(first, dataset, first.n)
            assert_is(second, dataset, first.n)
        (told,) = daemon.status()["datasets"]

    assert told["batches_shared"] >= 256
    assert told["batches_made"] <= 256 + 4 * 8 * 2
