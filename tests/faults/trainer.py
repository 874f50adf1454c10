"""A training script as users write it, to be killed at will; and how it is watched.

Each step is one line of a ledger, written at once: the batch's number, the hash of its bytes, and the stream's state
behind it. So the last whole line is the last state that was saved: a script that is started again goes on behind it.

    python -m tests.faults.trainer ADDRESS LEDGER --dataset noise --batches 60 --pace 0.005
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import loader_client
from tests.faults.data import DATASETS, Step, hash_of

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds


def step_of(line: bytes) -> Step:
    """Read a whole line."""
    n, hash_, state = line.decode().split(" ", 2)
    return Step(int(n), hash_, json.loads(state))


class Ledger:
    """What a script writes, and reads when it is started again."""

    def __init__(self, path: Path) -> None:
        path.touch()
        written = path.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        os.truncate(path, len(whole))  # a line that the kill cut off
        self.last = step_of(whole.splitlines()[-1]) if whole else None
        self._file = path.open("ab", buffering=0)

    def add(self, n: int, hash_: str, state: dict[str, Any]) -> None:
        """Write a line."""
        self._file.write(f"{n} {hash_} {json.dumps(state)}\n".encode())


class Trainer:
    """A script that runs, as whoever kills it sees it."""

    def __init__(self, address: str, ledger: Path, *options: str) -> None:
        self._command = [sys.executable, "-m", "tests.faults.trainer", address, str(ledger), *options]
        self._ledger = ledger
        self._read = 0
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self.process = subprocess.Popen(self._command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def new_steps(self) -> list[Step]:
        """Return the steps that were made since this was last asked."""
        if not self._ledger.exists():
            return []
        with self._ledger.open("rb") as file:
            file.seek(self._read)
            written = file.read()
        whole = written[: written.rfind(b"\n") + 1]
        self._read += len(whole)
        return [step_of(line) for line in whole.splitlines()]

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def end(self) -> None:
        """Have it end as at the end of its script; it must have nothing to complain of."""
        self.process.terminate()
        _, told = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, told


def main() -> None:
    """Train until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--dataset", choices=DATASETS, default="noise")
    parser.add_argument("--batches", type=int, default=10**9, help="begin again behind so many")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds that a step takes")
    parser.add_argument("--prefetch", type=int, default=8)
    parser.add_argument("--keras", action="store_true", help="train a model")
    options = parser.parse_args()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    with loader_client.connect(options.address) as loader:
        stream = loader.stream(DATASETS[options.dataset](), prefetch=options.prefetch)
        ledger = Ledger(options.ledger)
        if ledger.last is not None:
            stream.load_state_dict(ledger.last.state)
        (fit if options.keras else loop)(stream, ledger, ended, options)


def loop(stream: loader_client.Stream, ledger: Ledger, ended: list[int], options: argparse.Namespace) -> None:
    """Take batch after batch, and hold on to the last two, as frameworks do."""
    held: deque[loader_client.Batch] = deque(maxlen=2)
    while not ended:
        batch = stream.take(stream.cursor)
        held.append(batch)
        state = stream.state_dict()
        if state["n"] == options.batches:
            state["n"] = 0
            stream.load_state_dict(state)
        ledger.add(batch.n, hash_of(batch), state)
        time.sleep(options.pace)


def fit(stream: loader_client.Stream, ledger: Ledger, ended: list[int], options: argparse.Namespace) -> None:
    """Train a model of Keras'; what it steps on is what counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    class Model(keras.Sequential):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            self.steps_on = hash_of({"x": data[0], "y": data[1]})
            return super().train_step(data)

    class Steps(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            ledger.add(stream.cursor - 1, model.steps_on, stream.state_dict())
            self.model.stop_training = bool(ended)
            time.sleep(options.pace)

    model = Model([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    while not ended:
        model.fit(stream.keras(), epochs=1000, verbose=0, callbacks=[Steps()])


if __name__ == "__main__":
    main()
