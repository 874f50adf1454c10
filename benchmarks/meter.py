"""What is measured in the process of an arm: rate, CPU, memory, the first batch, and the gap between epochs.

    warm-up    from the first batch on to the end of the epoch, WARM_UP_LEAST seconds or more, but at most `longest`
    timed      rate: rows in so many seconds; CPU: user and system seconds of the whole process tree in that time
               and how many cores others kept busy meanwhile: a run that was disturbed shows it
    lingering  only where no epoch ended in the timed part: on to the next end of one, but at most `longest` seconds
    memory     PSS of the whole tree, the largest of some readings: shared memory is counted once

The gap at the end of an epoch is the time from its last batch to the first one of the next, less the median time
between two batches elsewhere. An arm that reads ahead has none.

    python -m benchmarks.meter benchmarks.volumes CASE ARM SECONDS LONGEST RESULT.json
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import psutil

WARM_UP_LEAST = 0.5  # seconds, and at least WARM_UP_BATCHES
WARM_UP_BATCHES = 20
MEMORY = 0.5  # seconds


class Phase(Enum):
    WARM_UP, TIMED, LINGERING, MEMORY, OVER = range(5)


class Meter:
    """Is told of every batch, right after it was touched, and of the end of every epoch."""

    def __init__(self, seconds: float, longest: float = 8.0) -> None:
        self.found: dict[str, Any] = {"batches": 0, "samples": 0}
        self.has_epochs = True  # whether it will be told of them
        self.before_timing: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._longest = longest
        self._phase = Phase.WARM_UP
        self._phase_began = self._last = time.perf_counter()
        self._cpu = self._busy = 0.0
        self._batches = self._epochs = 0
        self._at_boundary = False
        self._between: list[float] = []  # seconds from batch to batch
        self._gaps: list[float] = []  # the same, where an epoch ended between them
        self._memory = PeakMemory()

    @property
    def warming(self) -> bool:
        return self._phase is Phase.WARM_UP

    @property
    def over(self) -> bool:
        return self._phase is Phase.OVER

    def epoch_ended(self) -> None:
        self._epochs += 1
        self._at_boundary = True

    def saw(self, rows: int, batches: int = 1) -> None:
        now = time.perf_counter()
        took = now - self._phase_began
        if self._phase is Phase.TIMED:
            self.found["batches"] += batches
            self.found["samples"] += rows
            self._note(now - self._last)
            if took >= self._seconds:
                self.found["seconds"] = took
                self.found["cpu_seconds"] = cpu_seconds() - self._cpu
                others = busy_seconds() - self._busy - self.found["cpu_seconds"]
                self.found["others_cores"] = max(0.0, others / took)
                self._begin(Phase.LINGERING)
        elif self._phase is Phase.WARM_UP:
            if not self._batches:
                self.found["first_batch_seconds"] = took
                self._begin(Phase.WARM_UP)  # its time counts from here, however long the start took
                took = 0.0
            self._batches += batches
            begun = self._epochs or not self.has_epochs
            warm = begun and took >= WARM_UP_LEAST and self._batches >= WARM_UP_BATCHES
            if warm or took >= self._longest:
                self.before_timing()
                self._cpu, self._busy = cpu_seconds(), busy_seconds()
                self._begin(Phase.TIMED)
        elif self._phase is Phase.LINGERING:
            self._note(now - self._last)
            if self._gaps or not self.has_epochs or took >= self._longest:
                self._begin(Phase.MEMORY)
                self._memory.start()
        elif self._phase is Phase.MEMORY and took >= MEMORY:
            self.found["pss_mib"] = self._memory.stop() / 2**20
            self._begin(Phase.OVER)
        self._at_boundary = False
        self._last = max(now, self._phase_began)

    def _note(self, seconds: float) -> None:
        (self._gaps if self._at_boundary else self._between).append(seconds)

    def _begin(self, phase: Phase) -> None:
        self._phase = phase
        self._phase_began = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """Return what was found; without the gap, where no epoch ended."""
        if self._gaps:
            usual = statistics.median(self._between)
            self.found["gap_ms"] = (statistics.median(self._gaps) - usual) * 1000
            self.found["longest_gap_ms"] = (max(self._gaps) - usual) * 1000
        return self.found


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


def busy_seconds() -> float:
    """Return what all processes of the machine have used, whoever started them."""
    times = psutil.cpu_times()
    return sum(times[:8]) - times.idle - times.iowait  # without guests, which are counted as users already


class PeakMemory:
    """The largest PSS of the tree from start to stop, in bytes; read ten times a second."""

    def __init__(self) -> None:
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _read(self) -> None:
        while True:
            self._peak = max(self._peak, sum(pss(process.pid) for process in tree()))
            if self._over.wait(0.1):
                return


def pss(pid: int) -> int:
    """Return a process's proportional set size in bytes; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def main(module: str, case_name: str, arm_name: str, seconds: str, longest: str, result: str) -> None:
    """Measure one arm, here, and write what was found."""
    cases = importlib.import_module(module).CASES
    (arm,) = [arm for case in cases if case.name == case_name for arm in case.arms if arm.name == arm_name]
    meter = Meter(float(seconds), float(longest))
    arm.drive(meter)
    Path(result).write_text(json.dumps(meter.result()))


if __name__ == "__main__":
    status = 0
    try:
        main(*sys.argv[1:])
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)  # what was measured is written; some libraries' threads hang where Python takes them down
