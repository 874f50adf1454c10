"""Real daemons, real workers, real sockets; and nothing left of them after each test."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import loader_client
from loader_service import Dataset

COMMAND = str(Path(sys.executable).with_name("loader-service"))
PATIENCE = 60  # seconds
DATA_PARALLEL = Path(__file__).with_name("data_parallel.py")


@pytest.fixture(autouse=True)
def _clean(nothing_left, address):
    """Every test here has an address of its own, and must leave nothing behind."""


@pytest.fixture
def pictures(tmp_path):
    """Two classes of pictures of different sizes, JPEG and PNG."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(37):
            picture = rng.integers(0, 255, (24 + number % 5, 30, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / label / f"{number:03}.{'jpg' if number % 2 else 'png'}"), picture)
    return folder


@pytest.fixture
def augmented(pictures):
    """A stream of pictures with all that is random."""
    ds = Dataset.from_image_folder(pictures).random_resized_crop(16, 16).random_flip().one_hot("label", 2)
    return ds.shuffle(seed=7).batch(8)


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Return a function that writes a module of the user's, and makes it importable here."""
    folder = tmp_path / "user_code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(name, source):
        (folder / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        return name

    return write


class Daemon:
    """A daemon as its owner runs it, from the command line."""

    def __init__(self, address, *options):
        self.address = address
        self.process = subprocess.Popen(
            [COMMAND, "start", "--address", address, *options, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.ready = json.loads(line)

    def command(self, *arguments):
        done = subprocess.run(
            [COMMAND, *arguments, "--address", self.address], capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self):
        return json.loads(self.command("status", "--json"))

    def worker_pids(self):
        return [worker["pid"] for worker in self.status()["workers"]]

    def end(self):
        """Interrupt it, as Ctrl-C does, and return its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, log = self.process.communicate(timeout=PATIENCE)
        return log


@pytest.fixture
def start_daemon(address):
    """Return a function that starts a daemon; it is ended with the test."""
    daemons = []

    def start(*options):
        daemons.append(Daemon(address, *options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.end()


def digest(batches):
    """Return the hash of every byte of a sequence of batches: fields, ids, and their order."""
    total = hashlib.blake2b()
    for batch in batches:
        for name in sorted(batch):
            total.update(name.encode() + np.ascontiguousarray(batch[name]).tobytes())
    return total.hexdigest()


def expected_digest(dataset, numbers):
    """Return the hash that `compute`, which defines what a batch is, gives."""
    return digest(dataset.compute(n) for n in numbers)


def run_script(source, *arguments, **options):
    """Run a training script as a user would; return the finished process."""
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=PATIENCE, **options
    )


def keras_on(backend):
    """Run the tests of test_keras.py on another backend of Keras, which is chosen when it is first imported."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", Path(__file__).with_name("test_keras.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": backend},
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def few_slots():
    """A stream of five batches of 1 MB, each full of its number, in shared memory for three."""
    x = np.repeat(np.arange(5, dtype=np.float32), 1000)[:, None] * np.ones(256, np.float32)
    with loader_client.connect(workers=1, memory="4 MiB") as loader:
        yield loader.stream(Dataset.from_arrays(x=x).batch(1000))


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


__all__ = [
    "COMMAND",
    "DATA_PARALLEL",
    "Daemon",
    "digest",
    "expected_digest",
    "is_alive",
    "keras_on",
    "loader_client",
    "os",
    "run_script",
]
