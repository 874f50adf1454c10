"""Trainings that are killed again and again, compared with one that nobody disturbs.

`follow_schedule` is for a test, where every death has its place; `kill_at_random` for as many deaths as there is time.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).with_name("resumed_training.py")
PATIENCE = 110  # seconds that one run of the script may take
DEATHS = (-signal.SIGKILL, -signal.SIGXFSZ)  # as exit statuses


def start(folder: Path, address: str, *death: str) -> subprocess.Popen[str]:
    """Start the training, or go on with it."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, os.fspath(SCRIPT), os.fspath(folder), address, *death]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: subprocess.Popen[str]) -> int:
    """Wait for its end; return its exit status."""
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, *DEATHS), told
    return process.returncode


def follow_schedule(folder: Path, address: str, deaths: list[tuple[str, int]]) -> None:
    """Run the training until it ends; each of its first runs dies where it is told to."""
    for place, count in deaths:
        assert end(start(folder, address, place, str(count))) in DEATHS, place
    assert end(start(folder, address)) == 0


def kill_at_random(folder: Path, address: str, kills: int, choose: random.Random) -> int:
    """Run trainings, each in a folder of its own, until so many runs were killed from outside; return how many ended.

    Raises:
        AssertionError: If one is not what an undisturbed one is.
    """
    folder.mkdir(exist_ok=True)
    undisturbed = folder / "undisturbed"
    follow_schedule(undisturbed, address, [])
    ended = 0
    while kills > 0:
        training = folder / str(ended)
        while _run_or_kill(training, address, choose) in DEATHS:
            kills -= 1
        compare(training, undisturbed)
        ended += 1
    return ended


def _run_or_kill(folder: Path, address: str, choose: random.Random) -> int:
    """Run the script; kill it some moments after it has begun to train, if it runs for so long."""
    file = folder / "trained"
    length = file.stat().st_size if file.exists() else 0
    process = start(folder, address)
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and file.stat().st_size > length) and process.poll() is None:
        assert time.monotonic() < deadline, "no batch was trained"
        time.sleep(0.001)
    try:
        process.wait(choose.expovariate(1 / 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
    return end(process)


def compare(disturbed: Path, undisturbed: Path) -> None:
    """Fail unless both models are trained on the same batches in the same order, and have the same weights."""
    assert trained(disturbed) == trained(undisturbed)
    weights, expected = (np.load(folder / "weights.npy") for folder in (disturbed, undisturbed))
    assert np.abs(weights - expected).max() < 1e-6


def trained(folder: Path) -> list[list[int]]:
    """Return the ids of each step that the model has in it: what was made after the last backup was made again."""
    steps: dict[int, list[int]] = {}
    for line in (folder / "trained").read_text().splitlines():
        iteration, *ids = map(int, line.split())
        steps[iteration] = ids
    assert [*steps] == [*range(1, len(steps) + 1)], "each step follows the one before it"
    return list(steps.values())
