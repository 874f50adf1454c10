"""Workers that hang, stand still, or take all memory: found out by the clock, and made good by others."""

import os
import signal

import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from loader_service.protocol.errors import SampleError
from tests.end_to_end.conftest import digest, expected_digest
from tests.waiting import wait_until

HANGS_ONCE = """
import os, time
MARKER = {marker!r}

def slow(sample):
    if sample["x"][0] == 13 and not os.path.exists(MARKER):
        open(MARKER, "w").close()
        hang_here()
    return sample

def hang_here():
    while not os.path.exists(MARKER + ".go"):
        time.sleep(0.01)
"""

HANGS = """
import time

def slow(sample):
    if sample["x"][0] == 13:
        time.sleep(1000)
    return sample
"""

LEAKS = """
import numpy as np

kept = []

def leak(sample):
    kept.append(np.ones(2**20))
    return sample
"""


@pytest.fixture
def configured(start_daemon, tmp_path):
    """Return a function that starts a daemon with lines of a config."""

    def start(settings, workers=2):
        config = tmp_path / "service.toml"
        config.write_text(settings)
        return start_daemon(str(config), "--workers", str(workers))

    return start


@pytest.fixture
def numbers():
    """64 rows, each full of its own number."""
    return Dataset.from_arrays(x=np.repeat(np.arange(64, dtype=np.float32)[:, None], 4, axis=1))


def test_a_worker_that_hangs_is_killed_its_stack_is_logged_and_its_rows_are_made_again(
    configured, user_module, numbers, tmp_path, address
):
    user_module("hanging", HANGS_ONCE.format(marker=str(tmp_path / "marker")))
    ds = numbers.map("hanging:slow").batch(8)
    daemon = configured("task_timeout = 1", workers=1)

    with loader_client.connect(address) as loader:
        got = digest(loader.stream(ds))
        status = daemon.status()
    log = daemon.end()

    assert got == expected_digest(ds, range(8))
    assert status["workers_lost"] == 1
    assert "takes too long" in log
    assert "hang_here" in log, log


@pytest.mark.slow
def test_a_stopped_worker_is_killed_and_its_rows_are_made_again(configured, user_module, numbers, tmp_path, address):
    marker = tmp_path / "marker"
    user_module("hanging", HANGS_ONCE.format(marker=str(marker)))
    ds = numbers.map("hanging:slow").batch(8)
    daemon = configured("task_timeout = 1", workers=1)
    (pid,) = daemon.worker_pids()

    with loader_client.connect(address) as loader:
        stream = loader.stream(ds)
        stream.take(0)  # those after it are being made: one of them waits for the marker
        wait_until(marker.exists)
        os.kill(pid, signal.SIGSTOP)
        (tmp_path / "marker.go").touch()
        stream.move(0)
        got = digest(stream)
        assert daemon.status()["workers_lost"] == 1

    assert got == expected_digest(ds, range(8))


@pytest.mark.slow
def test_a_sample_that_always_hangs_is_named_in_the_end(user_module, numbers):
    user_module("hanging", HANGS)
    ds = numbers.map("hanging:slow").batch(16)

    with (
        loader_client.connect(workers=1, task_timeout=0.5) as loader,
        pytest.raises(SampleError, match=r"sample 13 \(row 13\): 3 workers died .*task_timeout"),
    ):
        next(iter(loader.stream(ds)))


@pytest.mark.slow
def test_a_batch_that_is_late_is_made_by_others_and_the_late_rows_never_reach_the_reader(
    configured, user_module, numbers, tmp_path, address
):
    marker = tmp_path / "marker"
    user_module("hanging", HANGS_ONCE.format(marker=str(marker)))
    ds = numbers.map("hanging:slow").batch(8)
    daemon = configured("task_timeout = 1000")

    with loader_client.connect(address) as loader:
        stream = loader.stream(ds)
        got = digest(stream)
        status = daemon.status()
        assert marker.exists(), "somebody hung"
        (tmp_path / "marker.go").touch()
        wait_until(lambda: not any(worker["tasks"] for worker in daemon.status()["workers"]))
        again = digest(stream)

    assert got == expected_digest(ds, range(8))
    assert again == expected_digest(ds, range(8, 16))
    assert status["second_attempts"] >= 1
    assert status["workers_lost"] == 0


def test_what_hangs_for_nobody_any_more_keeps_no_other_stream_waiting(
    configured, user_module, numbers, tmp_path, address
):
    marker = tmp_path / "marker"
    user_module("hanging", HANGS_ONCE.format(marker=str(marker)))
    configured("task_timeout = 1000")

    with loader_client.connect(address) as loader:
        given_up = loader.stream(numbers.map("hanging:slow").batch(8))
        given_up.take(0)
        wait_until(marker.exists)
        given_up.close()
        other = numbers.shuffle(seed=1).batch(8)

        assert digest(loader.stream(other)) == expected_digest(other, range(8))


@pytest.mark.slow
def test_a_worker_that_leaks_is_replaced_between_tasks(configured, user_module, numbers, address):
    user_module("leaking", LEAKS)
    ds = numbers.map("leaking:leak").batch(8)
    daemon = configured('worker_memory = "400 MiB"', workers=1)
    (before,) = daemon.worker_pids()

    with loader_client.connect(address) as loader:
        stream = loader.stream(ds)
        epochs = 0
        while daemon.worker_pids() == [before]:
            assert len(list(stream)) == 8
            epochs += 1
            assert epochs < 50
        assert digest(stream) == expected_digest(numbers.batch(8), range(8))
        assert daemon.status()["workers_lost"] == 0

    assert "(worker_memory)" in daemon.end()
