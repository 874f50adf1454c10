"""Workers stand back: below the trainer's priority, one thread for each library, no GPU."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import loader_client
from loader_service import Dataset
from loader_service.protocol.environment import ENVIRONMENT
from tests.end_to_end.conftest import COMMAND

MODULE = """
import json
import os
import subprocess
from pathlib import Path
import cv2
import numpy as np

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

def look(sample):
    before = threads()
    square = np.ones((600, 600), np.float32)
    square @ square
    np.linalg.svd(square[:64, :64])
    cv2.GaussianBlur(cv2.resize(square, (2000, 2000)), (9, 9), 3)
    return {
        "niceness": np.int64(os.nice(0)),
        "opencv_threads": np.int64(cv2.getNumThreads()),
        "more_threads": np.int64(threads() - before),
        "pid": np.int64(os.getpid()),
        "session": np.int64(os.getsid(0)),
    }
"""


@pytest.fixture
def told(user_module):
    """What a worker says of itself, and the loader that it works for."""
    user_module("manners", MODULE)
    dataset = Dataset.from_arrays(x=[0.0]).map("manners:look").batch(1)
    with loader_client.connect(workers=1) as loader:
        batch = next(iter(loader.stream(dataset)))
        yield {name: array[0] for name, array in batch.items()}, loader
        del batch


def test_workers_run_below_the_priority_of_trainer_and_daemon(told):
    worker, loader = told
    daemon = loader._daemon._process.pid

    assert worker["niceness"] == min(19, os.nice(0) + 10)
    assert os.getpriority(os.PRIO_PROCESS, daemon) == os.nice(0)


def test_workers_of_a_private_daemon_are_in_the_session_of_their_trainer(told):
    """Many kernels share cores out by session: in another one, niceness would say nothing to the trainer."""
    worker, _ = told

    assert worker["session"] == os.getsid(0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the kernel does not share cores out by session")
def test_workers_of_a_detached_daemon_stand_back_as_a_session(address):
    told = json.loads(subprocess.check_output([COMMAND, "start", "--workers", "1", "--detach", "--json"], text=True))
    (worker,) = json.loads(subprocess.check_output([COMMAND, "status", "--json"], text=True))["workers"]
    niceness = {pid: Path(f"/proc/{pid}/autogroup").read_text().split()[-1] for pid in (told["pid"], worker["pid"])}
    sessions = {os.getsid(pid) for pid in (0, told["pid"], worker["pid"])}
    subprocess.run([COMMAND, "stop"], check=True)

    assert niceness == {told["pid"]: "0", worker["pid"]: "5"}
    assert len(sessions) == 3


def test_ctrl_c_in_a_terminal_does_not_reach_a_private_daemon(told):
    """It goes to the foreground process group of a session: the trainer's."""
    _, loader = told

    assert os.getpgid(loader._daemon._process.pid) != os.getpgrp()


def test_libraries_start_no_threads_in_a_worker(told):
    worker, _ = told

    assert worker["opencv_threads"] == 1
    assert worker["more_threads"] == 0


def test_the_environment_of_a_worker_allows_each_library_one_thread_and_no_gpu(told):
    worker, _ = told
    environment = dict(
        entry.split(b"=", 1) for entry in Path(f"/proc/{worker['pid']}/environ").read_bytes().split(b"\0") if entry
    )

    assert environment.items() >= {name.encode(): value.encode() for name, value in ENVIRONMENT.items()}.items()
    assert environment[b"CUDA_VISIBLE_DEVICES"] == b""
    assert {environment[f"{library}_NUM_THREADS".encode()] for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")} == {
        b"1"
    }
