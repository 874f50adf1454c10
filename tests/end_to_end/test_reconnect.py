"""A daemon dies, and streams go on where they were; one that is stopped ends them."""

import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

import loader_client
from loader_client import DaemonLost, DaemonStopped, DatasetError
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest, is_alive, run_script


def daemon_of(loader):
    """Return the process of a private daemon."""
    (found,) = [child for child in psutil.Process().children() if loader.address in child.cmdline()]
    return found


def kill(daemon):
    daemon.process.kill()
    daemon.process.wait()


def test_a_stream_goes_on_where_it_was_when_its_daemon_comes_back(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)
        batches = [stream.take(n) for n in range(7)]
        kill(daemon)
        start_daemon("--workers", "1")
        began = time.monotonic()
        batches += [stream.take(n) for n in range(7, 30)]
        took = time.monotonic() - began

        assert digest(batches) == expected_digest(augmented, range(30))
    assert took < 5  # seconds; two on a quiet machine


def test_a_stream_goes_on_within_a_bundle_of_small_batches(start_daemon):
    x = np.arange(4 * 512).reshape(-1, 4)
    dataset = Dataset.from_arrays(x=x).shuffle(seed=3).batch(2)
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset)
        batches = [stream.take(n) for n in range(6)]
        (told,) = daemon.status()["datasets"]
        kill(daemon)
        start_daemon("--workers", "1")
        batches += [stream.take(n) for n in range(6, 300)]

        assert told["batches_a_slot"] == 4
        assert digest(batches) == expected_digest(dataset, range(300))


def test_the_reader_waits_while_its_daemon_is_away(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=2)
        batches = [stream.take(0)]
        kill(daemon)
        reader = threading.Thread(target=lambda: batches.extend(stream.take(n) for n in range(1, 20)))
        reader.start()
        reader.join(timeout=0.3)
        assert reader.is_alive()

        start_daemon("--workers", "1")
        reader.join(timeout=30)

        assert digest(batches) == expected_digest(augmented, range(20))


def test_a_private_daemon_is_started_again_as_often_as_it_dies(augmented):
    batches = []
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented, prefetch=3)
        dead = []
        for _ in range(3):
            batches += [stream.take(len(batches) + i) for i in range(8)]
            dead.append(daemon_of(loader))
            workers = dead[-1].children(recursive=True)
            dead[-1].kill()
            dead += workers
        batches += [stream.take(len(batches) + i) for i in range(8)]

        assert digest(batches) == expected_digest(augmented, range(32))
        _, alive = psutil.wait_procs(dead, timeout=10)
        assert not alive
        address = loader.address
    assert not Path(address.removeprefix("ipc://")).exists()


def test_all_streams_of_a_connection_go_on(start_daemon, augmented, pictures):
    plain = Dataset.from_image_folder(pictures).resize(8, 8).batch(5)
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        streams = [loader.stream(augmented, prefetch=2), loader.stream(plain, prefetch=2)]
        batches = [[stream.take(n) for n in range(4)] for stream in streams]
        kill(daemon)
        start_daemon("--workers", "2")
        readers = [
            threading.Thread(target=lambda stream=stream, into=into: into.extend(stream.take(n) for n in range(4, 20)))
            for stream, into in zip(streams, batches, strict=True)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout=30)

        assert [digest(each) for each in batches] == [expected_digest(ds, range(20)) for ds in (augmented, plain)]


@pytest.mark.slow
def test_arrays_from_before_stay_as_they_are_and_do_not_disturb_what_comes_after(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=2)
        old = [stream.take(n) for n in range(3)]
        kill(daemon)
        start_daemon("--workers", "2")
        new = [stream.take(n) for n in range(3, 8)]
        assert digest(old + new) == expected_digest(augmented, range(8))

        del old, new  # slots of both are given back: only those of the second are the second's

        assert digest(stream.take(n) for n in range(8, 40)) == expected_digest(augmented, range(8, 40))
        assert stream.stats()["copied_batches"] < 8


@pytest.mark.slow
def test_arrays_in_memory_are_handed_over_again(start_daemon):
    x = np.random.default_rng(0).random((400, 50))
    dataset = Dataset.from_arrays(x=x).shuffle(3).batch(16)
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset, prefetch=2)
        before = stream.take(0)
        kill(daemon)
        start_daemon("--workers", "1")
        after = [stream.take(n) for n in range(1, 25)]

        assert digest([before, *after]) == expected_digest(dataset, range(25))


@pytest.mark.slow
def test_arrays_that_were_changed_meanwhile_are_refused(start_daemon):
    x = np.zeros((400, 50))
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(Dataset.from_arrays(x=x).batch(16), prefetch=1)
        stream.take(0)
        kill(daemon)
        start_daemon("--workers", "1")
        x[:] = 1

        with pytest.raises(DatasetError, match="was changed after the dataset was made of it"):
            for n in range(1, 5):
                stream.take(n)


@pytest.mark.slow
def test_another_dataset_under_the_same_declaration_is_refused(start_daemon, pictures):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(Dataset.from_image_folder(pictures).resize(8, 8).batch(5), prefetch=1)
        stream.take(0)
        kill(daemon)
        cv2.imwrite(str(pictures / "cat" / "another.png"), np.zeros((24, 30, 3), np.uint8))
        start_daemon("--workers", "1")

        with pytest.raises(DatasetError, match="has died and come back, and the dataset is another one now"):
            for n in range(1, 5):
                stream.take(n)


@pytest.mark.parametrize("reconnect", [0, 0.3])
def test_one_that_does_not_come_back_in_time_is_an_error(start_daemon, augmented, reconnect):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect(reconnect=reconnect) as loader:
        stream = loader.stream(augmented, prefetch=1)
        stream.take(0)
        kill(daemon)

        sentence = r"has died, and did not come back within 0.3 s" if reconnect else "has died$"
        for _ in range(2):  # and says the same again
            with pytest.raises(DaemonLost, match=sentence):
                for n in range(1, 20):
                    stream.take(n)


@pytest.mark.slow
def test_one_that_was_stopped_is_not_waited_for(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=1)
        stream.take(0)
        daemon.command("stop")
        began = time.monotonic()

        with pytest.raises(DaemonStopped, match="was stopped: its streams have ended"):
            for n in range(1, 20):
                stream.take(n)
        with pytest.raises(DaemonStopped):
            loader.stream(augmented)
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_stream_can_be_opened_while_the_daemon_is_away(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        kill(daemon)
        opened = []
        opener = threading.Thread(target=lambda: opened.append(loader.stream(augmented)))
        opener.start()
        opener.join(timeout=0.3)
        assert not opened
        start_daemon("--workers", "1")
        opener.join(timeout=30)

        assert digest(opened[0]) == expected_digest(augmented, range(10))


def test_a_loader_can_be_closed_while_its_daemon_is_away(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)
        kept = stream.take(0)
        kill(daemon)
    assert np.array_equal(kept["image"], augmented.compute(0)["image"])


@pytest.mark.slow
def test_ctrl_c_while_waiting_for_a_daemon_leaves_a_stream_that_goes_on(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=1)
        batches = [stream.take(0)]
        kill(daemon)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                batches.append(stream.take(len(batches)))
        timer.join()
        start_daemon("--workers", "1")
        batches += [stream.take(n) for n in range(len(batches), 20)]

        assert digest(batches) == expected_digest(augmented, range(20))


def test_what_happens_is_said_once_on_stderr(pictures):
    script = """
import os, signal, sys, psutil
import loader_client
from loader_service import Dataset
with loader_client.connect(workers=1) as loader:
    stream = loader.stream(Dataset.from_image_folder(sys.argv[1]).resize(8, 8).batch(5), prefetch=1)
    stream.take(0)
    psutil.Process().children()[0].kill()
    for n in range(1, 9):
        stream.take(n)
"""
    done = run_script(script, str(pictures))

    assert done.returncode == 0, done.stderr
    died, back = done.stderr.strip().splitlines()
    assert died.endswith("has died; starting another")
    assert "is back after" in back


def test_a_process_that_is_only_stopped_is_alive(start_daemon, augmented):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect(reconnect=0) as loader:
        stream = loader.stream(augmented, prefetch=1)
        batches = [stream.take(0)]
        daemon.process.send_signal(signal.SIGSTOP)
        reader = threading.Thread(target=lambda: batches.extend(stream.take(n) for n in range(1, 10)))
        reader.start()
        reader.join(timeout=0.5)
        daemon.process.send_signal(signal.SIGCONT)
        reader.join(timeout=30)

        assert is_alive(daemon.process.pid)
        assert digest(batches) == expected_digest(augmented, range(10))
