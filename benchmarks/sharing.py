"""What does loading cost when four trainers read the same photos in step: one stream, or a loader each?

Method   Photos for training, as in photos.py. One and four trainers, each a process of its own, take a batch, touch it,
         and wait for one another: as those do that train several models, or one on several cards. Ours: one daemon with
         two workers, a stream each over the same dataset. PyTorch: a DataLoader with two workers in each trainer, the
         idiom of peers/torch_loader.py. Counted are CPU-seconds of the loading processes (daemon, template and workers;
         PyTorch's worker processes), from the warm-up's end on, for each batch that a trainer got. Arms take turns.
Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11, torch 2.13                       2026-11-21
Result   CPU-seconds of loading for 1,000 batches that a trainer got, and steps a second of all trainers together
                       PyTorch DataLoader      ours
         1 trainer     121 (112..140)          113 (100..130)     0.93 of PyTorch's     15.5 and 17.5 steps/s
         4 trainers    121 (118..132)          29 (26..32)        0.24 of PyTorch's     4.0 and 16.1 steps/s
Not shown  trainers that drift apart: within the slots' window they share as well; beyond, each batch is made again, and
         counted in `status` as batches_made_again.

    python -m benchmarks.sharing --json sharing.jsonl        (--steps 60 --repeats 5)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import data
from benchmarks.arms import touch
from benchmarks.harness import CAPS, begin
from benchmarks.photos import TRAIN
from loader_service.protocol.address import Address
from loader_service.protocol.launch import end, launch

WARM_UP = 10  # steps: what is made ahead is made
PATIENCE = 120.0  # seconds for a step of all trainers
TRAINERS = (1, 4)
spawn = multiprocessing.get_context("spawn")


def batches_of(arm: str, address: str | None) -> Iterator[Any]:
    """Yield batches for ever."""
    if arm == "ours":
        import loader_client

        with loader_client.connect(address) as loader:
            stream = loader.stream(TRAIN.dataset(), prefetch=TRAIN.prefetch)
            while True:
                yield from (tuple(batch.values()) for batch in stream)
    else:
        from benchmarks.peers import torch_loader

        for epoch in torch_loader.epochs(TRAIN):
            yield from epoch


def train(arm: str, address: str | None, steps: int, barrier: Any, results: Any) -> None:
    """Be a trainer: take a batch, touch it, wait for the others. Report the CPU that our own loaders have used."""
    used = 0.0
    multiprocessing.set_start_method("fork", force=True)  # PyTorch's own default; it was inherited from us otherwise
    with contextlib.closing(batches_of(arm, address)) as batches:
        for step in range(WARM_UP + steps):
            for array in next(batches):
                touch(array)
            if step == WARM_UP - 1:
                used -= cpu_of(psutil.Process().children(recursive=True))
            barrier.wait(PATIENCE)
        results.put(used + cpu_of(psutil.Process().children(recursive=True)))
        barrier.wait(PATIENCE)  # nobody ends its workers while others are measured


def cpu_of(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU-seconds of living processes."""
    spent = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:2])
    return spent


@contextlib.contextmanager
def a_daemon() -> Iterator[tuple[str, psutil.Process]]:
    """Run a daemon that several processes join."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        address = Address.parse(f"ipc://{folder}/daemon")
        process, _ = launch(address, ["--workers", "2", "--owner", str(os.getpid()), "--log-level", "WARNING"])
        try:
            yield str(address), psutil.Process(process.pid)
        finally:
            end(process)


def measure(arm: str, trainers: int, steps: int) -> dict[str, float]:
    """Have so many train; return CPU-seconds of loading for 1,000 batches that a trainer got, and steps a second."""
    with contextlib.ExitStack() as ending:
        address, daemon = ending.enter_context(a_daemon()) if arm == "ours" else (None, None)

        def shared_cpu() -> float:
            return cpu_of([daemon, *daemon.children(recursive=True)]) if daemon is not None else 0.0

        barrier, results = spawn.Barrier(trainers + 1), spawn.Queue()
        for _ in range(trainers):
            process = spawn.Process(target=train, args=(arm, address, steps, barrier, results))
            process.start()
            ending.callback(process.join, PATIENCE)
        used = began = 0.0
        for step in range(WARM_UP + steps):
            barrier.wait(PATIENCE)
            if step == WARM_UP - 1:
                used, began = -shared_cpu(), time.perf_counter()
        took = time.perf_counter() - began
        used += shared_cpu() + sum(results.get(timeout=PATIENCE) for _ in range(trainers))
        barrier.wait(PATIENCE)
    return {"cpu_s_per_1000": used / (trainers * steps) * 1000, "steps_per_s": steps / took}


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.sharing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="timed, of each arm in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each arm and repeat")
    asked = parser.parse_args()
    os.environ.update(CAPS)
    data.make_photos()
    machine, console = begin()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for repeat in range(asked.repeats):
        for trainers in TRAINERS:
            for arm in ("ours", "PyTorch DataLoader") if repeat % 2 else ("PyTorch DataLoader", "ours"):
                line = measure(arm, trainers, asked.steps)
                found.setdefault((arm, trainers), []).append(line)
                if asked.json:
                    told = {"benchmark": "benchmarks.sharing", "arm": arm, "trainers": trainers, "repeat": repeat}
                    with asked.json.open("a") as file:
                        file.write(json.dumps({**told, **line, **machine}) + "\n")
    show(found, console)


def show(found: dict[tuple[str, int], list[dict[str, float]]], console: Console) -> None:
    """Print medians and spreads, and ours against theirs in the same repeat."""
    table = Table("trainers", "loader", title="median (min..max)", title_justify="left")
    for heading in ("CPU s of loading per 1,000 batches", "steps/s"):
        table.add_column(heading, justify="right")
    for (arm, trainers), lines in sorted(found.items(), key=lambda item: item[0][1]):
        table.add_row(str(trainers), arm, *(spread([line[key] for line in lines]) for key in lines[0]))
    console.print(table)
    for trainers in TRAINERS:
        pairs = zip(found["ours", trainers], found["PyTorch DataLoader", trainers], strict=True)
        ratios = [ours["cpu_s_per_1000"] / theirs["cpu_s_per_1000"] for ours, theirs in pairs]
        console.print(f"{trainers} trainers: ours takes {statistics.median(ratios):.2f} of PyTorch's CPU")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}..{max(values):.3g})"


if __name__ == "__main__":
    main()
