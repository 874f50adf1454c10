"""The proof at length: a daemon and its trainers are killed and paused at random, and not a byte may be another one.

Every trainer keeps a ledger, each line of which is compared with `compute` while the run goes on. A trainer that was
killed goes on behind its last line. Nothing may be lost, repeated or changed; nobody may wait for long; and in the end
no process may be left over, no file descriptor, no socket, and no byte of shared memory. The schedule follows from the
seed, which is printed; the moment at which a fault strikes is the machine's own.

    python -m tests.faults.long --seed 7 --worker-kills 500 --daemon-kills 50 --trainer-kills 50 --pauses 100 \
        --json faults.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loader_service import __version__
from tests.faults.data import Expected
from tests.faults.trainer import Trainer
from tests.faults.watch import Violation, family_of, is_alive, shared_memory, status_of
from tests.leftovers import MARKER, Leftovers

COMMAND = str(Path(sys.executable).with_name("loader-service"))
WORKERS = 2
MEMORY = "64 MiB"
BREATH = 0.01  # seconds between looks
STALL = 30.0  # seconds that a trainer may be without a batch
STARTING = 60.0  # seconds that a trainer may take to begin: TensorFlow takes some
OUTLIVING = 5.0  # seconds that a process may live on after the daemon that it belongs to
GROWN = 0.3  # seconds after which a worker has joined, mostly
SETTLING = 30.0  # seconds that it may take until everything is as it was
ROUND = 60  # batches, after which most trainers begin again: so that `compute` has few of them to make
RESTS = 10  # times that the descriptors are counted


@dataclass(eq=False)
class Watched:
    """A trainer, and what is known of it."""

    name: str
    trainer: Trainer
    expected: Expected
    patience: float = STARTING
    steps: int = 0
    since: float = field(default_factory=time.monotonic)  # seconds; its last step, or its start
    longest: float = 0.0  # seconds between two steps of one life
    awaits: float | None = None  # seconds; when the daemon came back that it waits for

    def look(self, back: list[float]) -> None:
        """Compare what it has got since the last look; note how long it waited."""
        now, count = time.monotonic(), self.expected.check(self.trainer.new_steps(), self.name)
        if count:
            self.steps += count
            if self.patience == STALL:
                self.longest = max(self.longest, now - self.since)
            if self.awaits is not None:
                back.append(now - self.awaits)
            self.since, self.patience, self.awaits = now, STALL, None
        elif now - self.since > self.patience:
            raise Violation(f"{self.name} has had no batch for {self.patience:.0f} s")

    def restart(self) -> None:
        """Start it again, after it was killed, or found no daemon."""
        self.expected.check(self.trainer.new_steps(), self.name)
        self.trainer.start()
        self.since, self.patience, self.awaits = time.monotonic(), STARTING, None


class Siege:
    """A daemon, its trainers, and what is done to them."""

    def __init__(self, folder: Path, seed: int, *, trainers: int, keras: bool) -> None:
        self.address = f"ipc://{folder}/daemon"
        self._folder, self._draw = folder, random.Random(seed)
        self._log = (folder / "log").open("w")
        self._daemon = self._start_daemon()
        self._trainers = [self._start_trainer(number) for number in range(trainers)]
        if keras:
            options = ("--dataset", "table", "--keras", "--pace", "0.05")
            trainer = Trainer(self.address, folder / "keras", *options)
            self._trainers.append(Watched("the Keras trainer", trainer, Expected("table", 10**9)))
        self._paused: list[tuple[float, psutil.Process]] = []  # until when
        self._doomed: list[tuple[float, psutil.Process]] = []  # until when at the latest
        self.back: list[float] = []  # seconds from a daemon's return to a trainer's next batch
        self.descriptors: list[int] = []  # of the daemon, whenever all was quiet
        self.memory: list[int] = []  # bytes of its memfds
        self.lost = Counter({"workers": 0, "rows redone": 0})

    # -- what is done ----------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        """Kill one that was forked, whatever it is at."""
        self._some_worker().kill()

    def kill_the_daemon(self) -> None:
        """Kill it; start another one a moment later, at the same address."""
        self._count_losses()
        family = family_of(self._daemon.pid)
        self._daemon.kill()
        self._daemon.wait()
        self._doomed += [(time.monotonic() + OUTLIVING, process) for process in family]
        self.wait(self._draw.uniform(0, 0.5))
        self._daemon = self._start_daemon()
        for watched in self._trainers:
            watched.awaits = time.monotonic() if watched.patience == STALL else None

    def kill_a_trainer(self) -> None:
        """Kill one with batches in hand, and others under way; start it again."""
        weights = [1 if "Keras" in watched.name else 6 for watched in self._trainers]  # TensorFlow starts slowly
        (watched,) = self._draw.choices(self._trainers, weights)
        watched.trainer.kill()
        watched.restart()

    def pause_somebody(self) -> None:
        """Stop a process as a debugger does; it goes on a moment later."""
        template, *_ = family_of(self._daemon.pid)
        trainer = self._draw.choice(self._trainers).trainer
        candidates = [
            self._some_worker(),
            template,
            psutil.Process(self._daemon.pid),
            psutil.Process(trainer.process.pid),
        ]
        process = self._draw.choices(candidates, [4, 1, 2, 4])[0]
        process.suspend()
        self._paused.append((time.monotonic() + self._draw.uniform(0.05, 1.0), process))

    # -- what must hold --------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let things happen, and look at them."""
        until = time.monotonic() + seconds
        while True:
            self.look()
            if time.monotonic() >= until:
                return
            time.sleep(BREATH)

    def look(self) -> None:
        """Raise a Violation if anything is not as it should be."""
        now = time.monotonic()
        for until, process in [paused for paused in self._paused if now >= paused[0]]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
            self._paused.remove((until, process))
        for watched in self._trainers:
            watched.look(self.back)
            if watched.trainer.process.poll() is not None:
                self._let_in(watched)
        self._doomed = [(until, process) for until, process in self._doomed if is_alive(process)]
        for until, process in self._doomed:
            if now > until:
                raise Violation(f"{process} lives on, {OUTLIVING:.0f} s after its daemon was killed")
        if self._daemon.poll() not in (None, -signal.SIGKILL):
            raise Violation(f"the daemon has ended by itself, with exit code {self._daemon.returncode}")

    def rest(self) -> None:
        """Leave everybody alone, until all is as it was: so many workers, descriptors and slots, and no more."""
        self._until(lambda: not self._paused and not self._doomed, "nobody is stopped")
        steps = [watched.steps for watched in self._trainers]
        self._until(
            lambda: all(watched.steps > before + 2 for watched, before in zip(self._trainers, steps, strict=True)),
            "every trainer goes on",
        )
        self._until(self._is_settled, f"{WORKERS} workers are ready, and every trainer has its stream")
        daemon = psutil.Process(self._daemon.pid)
        if self.descriptors:
            self._until(
                lambda: daemon.num_fds() <= self.descriptors[0], f"it has {self.descriptors[0]} files open again"
            )
        self.descriptors.append(daemon.num_fds())
        self.memory.append(shared_memory(daemon.pid))
        if self.memory[-1] > 2 * self.memory[0]:
            raise Violation(f"shared memory has grown from {self.memory[0]:,} bytes to {self.memory[-1]:,}")

    def end(self) -> None:
        """End all of them as their users would, and see to it that nothing is left."""
        for watched in self._trainers:
            watched.trainer.end()
            watched.look(self.back)
        self._until(lambda: not status_of(self.address)["streams"], "all streams are closed")
        for dataset in status_of(self.address)["datasets"]:
            if dataset["slots"]["lent"] or dataset["slots"]["filling"]:
                raise Violation(f"slots are lost: {dataset['slots']}")
        self._count_losses()
        family = family_of(self._daemon.pid)
        subprocess.run([COMMAND, "stop", "--address", self.address], check=True, capture_output=True)
        if self._daemon.wait(SETTLING) != 0:
            raise Violation(f"the daemon was stopped, and its exit code is {self._daemon.returncode}")
        self._until(lambda: not any(map(is_alive, family)), "template and workers are gone")
        if left := [psutil.Process(pid) for pid in Leftovers.now().processes]:
            raise Violation(f"processes are left: {left}")
        if left := os.listdir(self.address.removeprefix("ipc://")):  # noqa: PTH208
            raise Violation(f"files are left: {left}")

    def close(self) -> None:
        """Have nobody live on, whatever has happened."""
        for _, process in self._paused:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        for watched in self._trainers:
            if watched.trainer.process.poll() is None:
                watched.trainer.kill()
        self._daemon.kill()
        self._daemon.wait()
        self._log.close()

    def result(self) -> dict[str, Any]:
        """Return what was seen, as plain data."""
        return {
            "batches": {watched.name: watched.steps for watched in self._trainers},
            "longest_wait_seconds": {watched.name: round(watched.longest, 2) for watched in self._trainers},
            "back_after_the_daemon_seconds": spread(self.back),
            "workers_lost": self.lost["workers"],
            "rows_redone": self.lost["rows redone"],
            "descriptors_at_rest": self.descriptors,
            "shared_memory_at_rest": self.memory,
        }

    # -- within ----------------------------------------------------------------------------------------------

    def _start_daemon(self) -> subprocess.Popen[str]:
        options = ["--address", self.address, "--workers", str(WORKERS), "--memory", MEMORY, "--json"]
        daemon = subprocess.Popen([COMMAND, "start", *options], stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert daemon.stdout is not None, "it is a pipe"
        if not daemon.stdout.readline():
            raise Violation(f"the daemon did not start again: exit code {daemon.wait()}")
        return daemon

    def _start_trainer(self, number: int) -> Watched:
        dataset = "table" if number % 3 == 2 else "noise"
        options = ("--dataset", dataset, "--batches", str(ROUND), "--pace", "0.005")
        trainer = Trainer(self.address, self._folder / f"trainer-{number}", *options)
        return Watched(f"trainer {number} ({dataset})", trainer, Expected(dataset, ROUND))

    def _let_in(self, watched: Watched) -> None:
        """A script that found no daemon when it was started is started again, as its supervisor would."""
        _, told = watched.trainer.process.communicate()
        if watched.patience == STALL or not any(error in told for error in ("NoDaemon", "DaemonLost")):
            raise Violation(f"{watched.name} has ended: {told[-2000:]}")
        watched.restart()

    def _some_worker(self) -> psutil.Process:
        """Return a worker; one that has just been forked only now and then, or the daemon would pause for it."""
        found: list[psutil.Process] = []
        youngest = 0 if self._draw.random() < 0.1 else GROWN

        def find() -> bool:
            born = time.time() - youngest
            found[:] = [
                each for each in family_of(self._daemon.pid)[1:] if is_alive(each) and each.create_time() <= born
            ]
            return bool(found)

        self._until(find, "there is a worker")
        return self._draw.choice(found)

    def _is_settled(self) -> bool:
        status = status_of(self.address)
        ready = [worker for worker in status["workers"] if worker["state"] in ("ready", "busy")]
        return len(ready) == len(status["workers"]) == WORKERS and len(status["streams"]) == len(self._trainers)

    def _count_losses(self) -> None:
        if any(process.pid == self._daemon.pid for _, process in self._paused):
            return  # it could not say
        status = status_of(self.address)
        self.lost.update({"workers": status["workers_lost"], "rows redone": status["rows_redone"]})

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLING
        while not condition():
            self.wait(BREATH)
            if time.monotonic() > deadline:
                raise Violation(f"after {SETTLING:.0f} s in peace it is not so that {what}")


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and longest."""
    return {"median": round(statistics.median(seconds), 2), "longest": round(max(seconds), 2)} if seconds else {}


def run(options: argparse.Namespace, told: Callable[[str], None]) -> dict[str, Any]:
    """Do all of it.

    Raises:
        Violation: At the first thing that is not as it should be.
    """
    draw = random.Random(options.seed)
    faults = ["kill_a_worker"] * options.worker_kills + ["kill_the_daemon"] * options.daemon_kills
    faults += ["kill_a_trainer"] * options.trainer_kills + ["pause_somebody"] * options.pauses
    draw.shuffle(faults)
    os.environ[MARKER] = uuid.uuid4().hex  # by which leftovers are known
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as name:
        siege = Siege(Path(name), options.seed, trainers=options.trainers, keras=options.keras)
        try:
            siege.rest()
            for number, fault in enumerate(faults, 1):
                siege.wait(draw.uniform(0, 2 * options.pace))
                getattr(siege, fault)()
                told(fault.replace("_", " "))
                if number % -(-len(faults) // RESTS) == 0:
                    siege.rest()
            siege.end()
        except Violation as violation:
            violation.add_note((Path(name) / "log").read_text()[-4000:])
            raise
        finally:
            siege.close()
        return {
            "seed": options.seed,
            "faults": dict(Counter(faults)),
            "seconds": round(time.monotonic() - began),
            **siege.result(),
            "left_over": {"processes": 0, "files": 0, "lent_slots": 0},
            "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}",
            "version": __version__,
        }


def main() -> int:
    """Run it, with a bar; exit with 1 at the first violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--worker-kills", type=int, default=500)
    parser.add_argument("--daemon-kills", type=int, default=50)
    parser.add_argument("--trainer-kills", type=int, default=50)
    parser.add_argument("--pauses", type=int, default=100)
    parser.add_argument("--trainers", type=int, default=3, help="plain loops")
    parser.add_argument("--keras", action=argparse.BooleanOptionalAction, default=True, help="and one that calls fit")
    parser.add_argument("--pace", type=float, default=0.25, help="mean seconds between two faults")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    console = Console(stderr=True)
    console.print(f"seed {options.seed}", highlight=False)
    total = options.worker_kills + options.daemon_kills + options.trainer_kills + options.pauses
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("starting", total=total)
            result = run(options, lambda fault: progress.update(bar, advance=1, description=fault))
    except Violation as violation:
        console.print(f"[bold red]violated[/], with seed {options.seed}: ", end="")
        console.print(str(violation), markup=False, highlight=False)
        for note in violation.__notes__:
            console.print(note, markup=False, highlight=False)
        return 1
    table = Table(title="nothing lost, repeated or changed; nothing left over", show_header=False)
    for key, value in result.items():
        table.add_row(key.replace("_", " "), json.dumps(value, indent=1) if isinstance(value, dict) else str(value))
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
