"""What does a training get while one of two workers is killed every second?

Method   Photos for training, as in photos.py, read as fast as they come from a private daemon with two workers. Phases
         take turns: undisturbed, and with a SIGKILL every second at one of the workers in turn. Compared are batches a
         second of both phases of a repeat. After each kill the daemon is asked until there are two workers again. The
         longest wait is that of the reader for one batch, in each phase.
Machine  2 cores AMD EPYC, 24 GiB, Linux 6.18, Python 3.11                                             2026-11-22
Result                            undisturbed            a kill a second
         batches a second         54.2 (48.0..59.3)      52.2 (44.9..58.0)      of the same repeat: 94 % (90..101)
         longest wait, ms         63 (45..111)           100 (89..138)
         Two workers again 39 ms after a kill (24..74).

    python -m benchmarks.recovery --json recovery.jsonl        (--seconds 6 --repeats 5)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import loader_client
from benchmarks import data
from benchmarks.harness import begin
from benchmarks.photos import TRAIN
from loader_service.cli.options import ask_status
from loader_service.protocol.address import Address
from loader_service.protocol.messages import GetStatus

WORKERS = 2
BETWEEN = 1.0  # seconds between kills
GRACE = 0.2  # part of a phase that is not counted: its beginning


class Killer(threading.Thread):
    """Kills a worker every second, until told to stop; notes how long until it was replaced."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.replaced: list[float] = []  # seconds
        self._address = Address.parse(address)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(BETWEEN):
            pids = self._pids()
            victim = pids[len(self.replaced) % WORKERS]
            killed = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            while victim in (pids := self._pids()) or len(pids) < WORKERS:
                pass  # asking takes some milliseconds
            self.replaced.append(time.perf_counter() - killed)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _pids(self) -> list[int]:
        """Return the workers that accept tasks."""
        workers = ask_status(self._address, GetStatus(), 10)["workers"]
        return [worker["pid"] for worker in workers if worker["state"] in ("ready", "busy")]


def phase(batches: Any, seconds: float) -> dict[str, float]:
    """Read for so long; return batches a second, and the longest wait for one (ms)."""
    began = last = time.perf_counter()
    count, longest, counted_from = 0, 0.0, began + GRACE * seconds
    while last - began < seconds:
        next(batches)
        now = time.perf_counter()
        if now > counted_from:
            count += 1
            longest = max(longest, now - last)
        last = now
    return {"batches_per_s": count / (last - counted_from), "longest_wait_ms": longest * 1000}


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.recovery", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each phase")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each repeat")
    asked = parser.parse_args()
    data.make_photos()
    machine, console = begin()
    lines: list[dict[str, Any]] = []
    with loader_client.connect(workers=WORKERS) as loader:
        stream = loader.stream(TRAIN.dataset(), prefetch=TRAIN.prefetch)
        batches = stream.generator()
        phase(batches, 2.0)
        assert loader.address is not None, "it is a daemon's"
        for repeat in range(asked.repeats):
            calm = phase(batches, asked.seconds)
            killer = Killer(loader.address)
            killer.start()
            disturbed = phase(batches, asked.seconds)
            killer.stop()
            line = {"repeat": repeat, "calm": calm, "disturbed": disturbed, "replaced_s": killer.replaced}
            lines.append(line)
            if asked.json:
                with asked.json.open("a") as file:
                    file.write(json.dumps({"benchmark": "benchmarks.recovery", **line, **machine}) + "\n")
    show(lines, console)


def show(lines: list[dict[str, Any]], console: Console) -> None:
    """Print medians and spreads."""
    table = Table("", "undisturbed", "a kill a second", title="median (min..max)", title_justify="left")
    for name, what in (("batches_per_s", "batches a second"), ("longest_wait_ms", "longest wait for a batch, ms")):
        table.add_row(what, *(spread([line[arm][name] for line in lines]) for arm in ("calm", "disturbed")))
    console.print(table)
    ratios = [line["disturbed"]["batches_per_s"] / line["calm"]["batches_per_s"] for line in lines]
    console.print(f"disturbed against undisturbed, of the same repeat: {spread([100 * ratio for ratio in ratios])} %")
    replaced = [seconds * 1000 for line in lines for seconds in line["replaced_s"]]
    console.print(f"two workers again after {spread(replaced)} ms; {len(replaced)} kills")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


if __name__ == "__main__":
    main()
