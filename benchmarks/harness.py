"""What the benchmarks share: arms that take turns, each in a process of its own, measured alike.

An arm is a generator that hands batches over and yields how many there were since it last yielded. Each repeat of an
arm is a new process, in which it warms up, is timed, and then goes on for a second in which its memory is read. The
arms take turns, and start one further on in each repeat: what else the machine does falls on all of them.

    rate      batches in the timed interval, from the first arm's batch after the warm-up
    CPU       user and system seconds of the whole process tree in that interval: daemon, workers, ended children
    memory    PSS of the whole tree, the largest of ten readings: shared memory is counted once

Libraries may use one thread in every process, unless an arm says how many its workers are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import c_longlong
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import psutil
from rich.console import Console
from rich.table import Table

WARM_UP = 1.0  # seconds, and at least WARM_UP_BATCHES
WARM_UP_BATCHES = 20
PATIENCE = 30.0  # seconds that an arm may take beyond its timed part, before it counts as hung
ATTEMPTS = 4  # at an arm that hangs
CAPS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "2",  # the two workers of tf.data
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
}
PACKAGES = ["loader-service", "numpy", "pyzmq", "msgpack", "pydantic", "uvloop", "keras", "tensorflow", "torch"]


@dataclass(frozen=True)
class Arm:
    """One way of doing it; `needs` names a module that may be missing."""

    name: str
    run: Callable[[], Iterator[int]]
    needs: str | None = None

    @property
    def is_here(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


@dataclass(frozen=True)
class Case:
    """Arms that answer one question; the first of them is ours, and all others are compared with it."""

    name: str
    nbytes: int  # of a batch
    rows: int
    arms: list[Arm]
    unit: str = "batches"  # or "samples": what the table counts
    remarks: dict[str, Any] = field(default_factory=dict)  # what else a reader of the figures must know


def main(module: str, description: str, cases: list[Case]) -> None:
    """Run the command line of a benchmark."""
    parser = argparse.ArgumentParser(module, description=description.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="timed, of each arm in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each arm and repeat")
    parser.add_argument("--only", default="", metavar="TEXT", help="arms whose name contains it; ours in any case")
    parser.add_argument("--case", default="", metavar="TEXT", help="cases whose name contains it")
    parser.add_argument("--run", nargs=2, metavar=("CASE", "ARM"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        (arm,) = [arm for case in cases if case.name == asked.run[0] for arm in case.arms if arm.name == asked.run[1]]
        json.dump(measure(arm, asked.seconds), sys.stdout)
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    machine = describe_machine()
    console.print(*(f"{name} {text}" for name, text in machine.items()), sep="   ", highlight=False, soft_wrap=True)
    for case in cases:
        if asked.case in case.name:
            arms = [arm for number, arm in enumerate(case.arms) if number == 0 or asked.only in arm.name]
            compare(console, module, case, arms, asked, machine)


def compare(
    console: Console, module: str, case: Case, arms: list[Arm], asked: argparse.Namespace, machine: dict[str, str]
) -> None:
    """Run the arms of a case in turns, and print what came out."""
    for arm in arms:
        if not arm.is_here:
            console.print(f"left out: {arm.name}; {arm.needs} is not installed here", style="dim")
    arms = [arm for arm in arms if arm.is_here]
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    for repeat in range(asked.repeats):
        first = repeat % len(arms)
        for arm in arms[first:] + arms[:first]:
            with console.status(f"{case.name}: {arm.name}, {repeat + 1} of {asked.repeats}"):
                line = run_until_it_ends(console, module, case, arm, asked.seconds)
            found[arm.name].append(line)
            if asked.json:
                told = {"benchmark": module, "case": case.name, "arm": arm.name, "repeat": repeat, **line}
                with asked.json.open("a") as file:
                    file.write(json.dumps({**told, "nbytes": case.nbytes, **case.remarks, **machine}) + "\n")
    console.print(table_of(case, found))


def run_until_it_ends(console: Console, module: str, case: Case, arm: Arm, seconds: float) -> dict[str, Any]:
    """Measure an arm; once more where it hangs, and say so: Keras' forks of a process with TensorFlow in it may."""
    for _ in range(ATTEMPTS - 1):
        try:
            return run_in_process(module, case, arm, seconds)
        except subprocess.TimeoutExpired:
            console.print(f"hung, and is run again: {arm.name}", style="yellow")
    return run_in_process(module, case, arm, seconds)


def run_in_process(module: str, case: Case, arm: Arm, seconds: float) -> dict[str, Any]:
    """Measure an arm in a new process."""
    command = [sys.executable, "-m", module, "--run", case.name, arm.name, "--seconds", str(seconds)]
    with subprocess.Popen(
        command,
        env={**os.environ, **CAPS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that an arm that hangs can be ended with all that it started
    ) as ran:
        try:
            told, errors = ran.communicate(timeout=PATIENCE + seconds)
        except BaseException:
            os.killpg(ran.pid, signal.SIGKILL)
            raise
    if ran.returncode:
        raise SystemExit(f"{case.name}: {arm.name} ended with exit code {ran.returncode}\n{errors}")
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


# -- what arms are made of --------------------------------------------------------------------------------------

fork = multiprocessing.get_context("fork")


class Counter(Protocol):
    """A number in shared memory that one process counts up."""

    value: int


@contextlib.contextmanager
def processes(*targets: Callable[[], None]) -> Iterator[None]:
    """Run functions that never return, each in a fork of this process."""
    running = [fork.Process(target=target, daemon=True) for target in targets]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def counted(fill: Callable[[int, Counter], None], workers: int) -> Iterator[int]:
    """Have processes make batches that nobody reads; yield what they count, now and then."""
    counters = [fork.RawValue(c_longlong) for _ in range(workers)]
    seen = 0
    with processes(*(partial(fill, worker, counter) for worker, counter in enumerate(counters))):
        while True:
            time.sleep(0.01)
            made = sum(counter.value for counter in counters)
            if made > seen:
                yield made - seen
            seen = made


# -- in the process of an arm ------------------------------------------------------------------------------------


def measure(arm: Arm, seconds: float) -> dict[str, Any]:
    """Warm up, time, and read the memory of one arm, here."""
    began = time.perf_counter()
    with contextlib.closing(arm.run()) as batches:
        first = next(batches) and time.perf_counter() - began
        hand_over(batches, WARM_UP, least=WARM_UP_BATCHES)
        cpu = cpu_seconds()
        count, took = hand_over(batches, seconds)
        cpu = cpu_seconds() - cpu
        with PeakMemory() as memory:
            hand_over(batches, 1.0)
    return {
        "batches": count,
        "seconds": took,
        "cpu_seconds": cpu,
        "pss_mib": memory.peak / 2**20,
        "first_batch_seconds": first,
    }


def hand_over(batches: Iterator[int], seconds: float, least: int = 1) -> tuple[int, float]:
    """Draw batches for so long. Return how many came, and the seconds that it took."""
    count = 0
    began = now = time.perf_counter()
    for came in batches:
        count += came
        now = time.perf_counter()
        if now - began >= seconds and count >= least:
            break
    return count, now - began


def tree() -> list[psutil.Process]:
    """Return this process and all that descend from it."""
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def cpu_seconds() -> float:
    """Return what the tree has used, ended children included; those of a living child are its own to count."""
    spent = 0.0
    for process in tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:4])  # user, system, and both of the children it has reaped
    return spent


class PeakMemory:
    """The largest PSS of the tree while it is open, in bytes; read ten times a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, sum(pss(process.pid) for process in tree()))


def pss(pid: int) -> int:
    """Return a process's proportional set size in bytes; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


# -- what came out -----------------------------------------------------------------------------------------------


def table_of(case: Case, found: dict[str, list[dict[str, Any]]]) -> Table:
    """Return medians and spreads, and how much faster the first arm is than each."""
    each = case.rows if case.unit == "samples" else 1
    table = Table(title=f"{case.name}: median (min..max)", title_justify="left")
    table.add_column("arm", no_wrap=True)
    for heading in (f"{case.unit}/s", "GB/s", "CPU ms a batch", "PSS MiB", "first s", "ours is"):
        table.add_column(heading, justify="right")
    ours = None
    for name, lines in found.items():
        rates = [line["batches"] / line["seconds"] for line in lines]
        rate = statistics.median(rates)
        ours = ours or rate
        cpu = [line["cpu_seconds"] / line["batches"] * 1000 for line in lines]
        table.add_row(
            name,
            spread([rate * each for rate in rates]),
            f"{rate * case.nbytes / 1e9:,.2f}",
            f"{statistics.median(cpu):,.3g}",
            f"{statistics.median(line['pss_mib'] for line in lines):,.0f}",
            f"{statistics.median(line['first_batch_seconds'] for line in lines):.1f}",
            f"{ours / rate:,.2g} x",
        )
    return table


def spread(values: list[float]) -> str:
    """Return "median (min..max)"."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}..{max(values):,.0f})"


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on: versions and the machine."""
    told = {"date": time.strftime("%Y-%m-%d"), "Python": platform.python_version(), "Linux": platform.release()}
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told["CPU"] = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    told["cores"] = str(len(os.sched_getaffinity(0)))
    told["memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            told[package] = version(package)
    return told
