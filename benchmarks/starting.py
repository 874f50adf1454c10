"""How long does a training wait from `connect()` to its first batch?

Method   2,000 JPEGs in ten folders, cropped and mirrored at random, batches of 64 (benchmarks/photos.py); two workers.
         Each time a new process, which has imported loader_client and NumPy: its own imports are not timed.
         Alone: it starts a private daemon. Beside a daemon: one runs, and has never seen the dataset, whose seed is
         another each time. Started again: the daemon has the dataset open, as after a crash, or in the next cell.
         Ways take turns. The gap between epochs is that of volumes.py, photos.py and others: see docs/performance.md.

    python -m benchmarks.starting --json starting.jsonl        (--repeats 10)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

import loader_client
from benchmarks import data
from benchmarks.harness import begin

CORES = 2
WAYS = ("alone", "beside a daemon", "started again")

TRAINER = """
import sys
import time

import numpy

import loader_client
from benchmarks import data
from loader_service import Dataset

address, seed = sys.argv[1] or None, int(sys.argv[2])
photos = Dataset.from_image_folder(data.FOLDER / "photos").random_resized_crop(224, 224).random_flip()
began = time.perf_counter()
with loader_client.connect(address, workers=None if address else 2) as loader:
    connected = time.perf_counter()
    with loader.stream(photos.shuffle(seed).batch(64)) as stream:
        next(iter(stream))["image"].sum()
        print(connected - began, time.perf_counter() - began)
"""


def first_batch(address: str, seed: int) -> tuple[float, float]:
    """Return the seconds that a new process waits for its connection, and for its first batch."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, address, str(seed)], capture_output=True, text=True, check=True, timeout=60
    )
    connected, there = map(float, done.stdout.split())
    return connected, there


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.starting", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each way and repeat")
    asked = parser.parse_args()
    machine, console = begin(cores=CORES)
    data.make_photos()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        address = f"ipc://{folder}/daemon"
        command = Path(sys.executable).with_name("loader-service")
        subprocess.run(
            [command, "start", "--detach", "--workers", "2", "--address", address], check=True, capture_output=True
        )
        stack.callback(subprocess.run, [command, "stop", "--address", address], check=True, capture_output=True)
        stack.enter_context(loader_client.connect(address))
        for repeat in range(-1, asked.repeats):  # the first one is to warm up
            times = [first_batch(where, repeat + 1) for where in ("", address, address)]
            if repeat < 0:
                continue
            for way, (connected, there) in zip(WAYS, times, strict=True):
                found[way].append((connected, there))
                if asked.json:
                    told = {"benchmark": "benchmarks.starting", "arm": way, "repeat": repeat}
                    with asked.json.open("a") as file:
                        file.write(json.dumps({**told, "connected_s": connected, "first_batch_s": there, **machine}))
                        file.write("\n")
    table = Table("", title="seconds from connect(): median (min..max)", title_justify="left")
    for heading in ("connected", "first batch"):
        table.add_column(heading, justify="right")
    for way, pairs in found.items():
        columns = [
            f"{statistics.median(column):.2f} ({min(column):.2f}..{max(column):.2f})"
            for column in zip(*pairs, strict=True)
        ]
        table.add_row(way, *columns)
    console.print(table)


if __name__ == "__main__":
    main()
