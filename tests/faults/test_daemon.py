"""The daemon is killed: whoever waits for its return goes on where it was, and nothing of the old one is left."""

import os
import random
import subprocess
import sys
import threading

import pytest

import loader_client
from loader_client import DaemonLost
from tests.end_to_end.conftest import COMMAND
from tests.faults.data import hash_of, hashes, noisy, table
from tests.faults.trainer import ROOT, Trainer
from tests.faults.watch import family_of, status_of, wait_for_end
from tests.waiting import wait_until

#: The worker keeps Python's lock, and heeds nobody.
DEEP_IN_C = """
import ctypes
MARKER = {marker!r}

def sleep(sample):
    if sample["x"][0] > 0:  # by the first one, the spec is found
        open(MARKER, "w").close()
        ctypes.PyDLL(None).sleep(1000)
    return sample
"""


def kill(daemon):
    """Return the template and the workers that it had."""
    family = family_of(daemon.process.pid)
    daemon.process.kill()
    daemon.process.communicate()
    return family


@pytest.mark.slow
def test_two_trainers_go_on_at_the_same_batch_as_often_as_it_is_killed(start_daemon, address, tmp_path):
    daemon = start_daemon("--workers", "2")
    draw = random.Random(3)
    trainers = [
        Trainer(address, tmp_path / "noise", "--dataset", "noise", "--pace", "0.002"),
        Trainer(address, tmp_path / "table", "--dataset", "table", "--pace", "0.002"),
    ]
    steps = [[], []]

    def made(trainer):
        steps[trainer] += trainers[trainer].new_steps()
        return len(steps[trainer])

    for _ in range(3):
        goal = [made(trainer) + draw.randrange(3, 40) for trainer in range(2)]
        wait_until(lambda goal=goal: all(made(trainer) >= goal[trainer] for trainer in range(2)))
        wait_for_end(kill(daemon))
        before = [made(trainer) for trainer in range(2)]
        daemon = start_daemon("--workers", "2")
        back = wait_until(lambda before=before: all(made(trainer) > before[trainer] for trainer in range(2)))
        assert back < 2  # seconds
    for trainer in trainers:
        trainer.end()

    for trainer, dataset in enumerate((noisy(), table())):
        made(trainer)
        assert [step.n for step in steps[trainer]] == list(range(len(steps[trainer])))
        assert [step.hash for step in steps[trainer]] == hashes(map(dataset.compute, range(len(steps[trainer]))))


@pytest.mark.parametrize("stopped", ["workers", "template", "template and workers"])
def test_nobody_survives_a_killed_daemon_not_even_who_is_stopped(start_daemon, stopped):
    """Who is stopped reads no end of file."""
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        loader.stream(noisy()).take(0)
        template, *workers = family_of(daemon.process.pid)
        for process in ([template] if "template" in stopped else []) + (workers if "workers" in stopped else []):
            process.suspend()

        wait_for_end(kill(daemon))


def test_nobody_survives_a_killed_daemon_not_even_who_is_deep_in_c(start_daemon, user_module, tmp_path):
    marker = tmp_path / "marker"
    user_module("deep", DEEP_IN_C.format(marker=str(marker)))
    daemon = start_daemon("--workers", "2")
    with loader_client.connect(reconnect=0) as loader:
        stream = loader.stream(noisy().map("deep:sleep"))

        def read():
            with pytest.raises(DaemonLost):
                stream.take(0)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(marker.exists)
        wait_for_end(kill(daemon))
        reader.join()


@pytest.mark.slow
def test_a_private_daemons_workers_end_with_a_script_that_is_killed_while_they_are_stopped(tmp_path):
    script = """
import time
import loader_client
from tests.faults.data import noisy

with loader_client.connect(workers=2) as loader:
    loader.stream(noisy()).take(0)
    print("ready", flush=True)
    time.sleep(1000)
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert trainer.stdout.readline() == "ready\n"
    _daemon, *family = family_of(trainer.pid)
    for process in family:
        process.suspend()

    trainer.kill()
    trainer.communicate()
    wait_for_end(family, seconds=15)  # the daemon waits some for its template to end by itself


@pytest.mark.slow
def test_a_daemon_that_is_killed_while_it_starts_leaves_nobody_and_keeps_no_address(address):
    draw = random.Random(5)
    for _ in range(3):
        process = subprocess.Popen([COMMAND, "start", "--workers", "2"], stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.1, 0.8))
        except subprocess.TimeoutExpired:
            family = family_of(process.pid)
            process.kill()
            process.wait()
            wait_for_end(family)
    started = subprocess.run([COMMAND, "start", "--workers", "1", "--detach"], capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    with loader_client.connect(address) as loader:
        assert hash_of(loader.stream(noisy()).take(0)) == hash_of(noisy().compute(0))
    subprocess.run([COMMAND, "stop"], check=True, capture_output=True)


@pytest.mark.slow
def test_what_a_killed_daemon_leaves_in_its_folder_is_nothing_to_the_next(start_daemon, address):
    daemon = start_daemon("--workers", "1")
    kill(daemon)
    folder = address.removeprefix("ipc://")
    left = set(os.listdir(folder))  # noqa: PTH208

    daemon = start_daemon("--workers", "1")
    assert status_of(address)["pid"] == daemon.process.pid
    assert set(os.listdir(folder)) == left == {"lock", "lifeline", "clients", "workers"}  # noqa: PTH208
    daemon.end()

    assert os.listdir(folder) == []  # noqa: PTH208
    assert daemon.process.returncode == 0
