"""Workers stand back: below the trainer's priority, one thread for each library, no GPU."""

import os
from pathlib import Path

import pytest

import loader_client
from loader_service import Dataset
from loader_service.pool.engine import ENVIRONMENT

MODULE = """
import os
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


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the kernel groups no processes by session")
def test_where_the_kernel_weighs_sessions_that_of_the_workers_stands_back(told):
    """There, the niceness of a process says nothing to those of another session."""
    worker, loader = told
    daemon = loader._daemon._process.pid

    assert worker["session"] not in (os.getsid(0), os.getsid(daemon))
    assert Path(f"/proc/{worker['pid']}/autogroup").read_text().endswith("nice 10\n")
    assert Path(f"/proc/{daemon}/autogroup").read_text().endswith("nice 0\n")


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
