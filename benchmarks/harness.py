"""The command line of a benchmark: arms take turns, each repeat of each in a process of its own.

The arms start one further on in each repeat: what else the machine does falls on all of them. Libraries may use one
thread in every process, unless an arm says how many its workers are. What is measured is in `benchmarks/meter.py`. An
arm whose package is missing is left out; one beside which others took much of the machine is measured again, twice at
most; one that hangs is run again, and said so; one that fails is named, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.arms import Arm, Case
from benchmarks.figures import is_ours, table_of

ROOT = Path(__file__).parents[1]
PATIENCE = 45.0  # seconds that an arm may take beyond its timed part, before it counts as hung
ATTEMPTS = 4  # at an arm that hangs
TRIES = 3  # at an arm, while others disturb it
DISTURBED = 0.15  # cores that others take meanwhile: neighbours of a virtual machine count, too
CAPS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "2",  # the two workers of tf.data
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
}
PACKAGES = [
    "loader-service",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pyzmq",
    "msgpack",
    "pydantic",
    "uvloop",
    "keras",
    "tensorflow",
    "torch",
    "albumentations",
    "grain",
    "nvidia-dali-cuda120",
    "spdl",
    "tensorpack",
    "ffcv",
    "ray",
]


class ArmFailed(Exception):
    """An arm ended with an error, or hung too often."""


def main(module: str, description: str, cases: list[Case]) -> None:
    """Run the command line of one benchmark."""
    raise SystemExit(run(module, description.partition("\n")[0], {module: cases}))


def run(command: str, description: str, benchmarks: dict[str, list[Case]]) -> int:
    """Run cases as the command line asks, and return the exit status."""
    parser = argparse.ArgumentParser(f"python -m {command}", description=description)
    parser.add_argument("--seconds", type=float, default=3.0, help="timed, of each arm in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds for warm-up, waiting for an epoch to end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one JSON line for each arm and repeat")
    parser.add_argument("--short", action="store_true", help="leave out cases and arms that say less, or start slowly")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="arms whose name contains it, or the text of another --only; ours in any case",
    )
    parser.add_argument("--case", default="", metavar="TEXT", help="cases whose name contains it")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the arm that runs, as Ctrl-C does
    console = Console(width=None if sys.stdout.isatty() else 190)
    setting = {**describe_machine(), "command": command_of(command, asked)}
    console.print(*(f"{name} {text}" for name, text in setting.items()), sep="   ", highlight=False, soft_wrap=True)
    failed: list[str] = []
    for module, cases in benchmarks.items():
        for case in cases:
            if asked.case in case.name and (case.short or not asked.short):
                case.prepare()
                failed += compare(console, module, case, arms_asked_for(case, asked), asked, setting)
    for told in failed:
        console.print(f"failed: {told}", style="red", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def arms_asked_for(case: Case, asked: argparse.Namespace) -> list[Arm]:
    """Return ours, and those that the command line does not leave out."""
    ours, *others = case.arms
    meant = [arm for arm in others if not asked.only or any(text in arm.name for text in asked.only)]
    return [ours, *(arm for arm in meant if arm.short or not asked.short)]


def compare(
    console: Console, module: str, case: Case, arms: list[Arm], asked: argparse.Namespace, setting: dict[str, str]
) -> list[str]:
    """Run the arms of a case in turns, and print what came out. Return what failed."""
    for arm in arms:
        if not arm.is_here:
            console.print(f"left out: {arm.name}; {arm.needs} is not installed here", style="dim")
    arms = [arm for arm in arms if arm.is_here]
    lines: list[dict[str, Any]] = []
    failed: list[str] = []
    for repeat in range(asked.repeats):
        first = repeat % len(arms)
        for arm in arms[first:] + arms[:first]:
            with console.status(f"{case.name}: {arm.name}, {repeat + 1} of {asked.repeats}"):
                try:
                    found = run_undisturbed(console, module, case, arm, asked)
                except ArmFailed as error:
                    failed.append(str(error))
                    continue
            told = {"benchmark": module, "case": case.name, "arm": arm.name, "repeat": repeat, **found}
            told |= {} if arm.at is None else {"at": arm.at}
            lines.append({**told, "unit": case.unit, "nbytes": case.nbytes, "rows": case.rows, **case.remarks})
            if asked.json:
                with asked.json.open("a") as file:
                    file.write(json.dumps({**lines[-1], **setting}) + "\n")
    if any(is_ours(line["arm"]) for line in lines):  # or there is nothing to compare with
        order = [arm.name for arm in arms]
        console.print(table_of(sorted(lines, key=lambda line: order.index(line["arm"]))))
    return failed


def run_undisturbed(console: Console, module: str, case: Case, arm: Arm, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure an arm; again while others take much of the machine, some times. Return the least disturbed figures."""
    tries: list[dict[str, Any]] = []
    while not tries or (len(tries) < TRIES and min(each["others_cores"] for each in tries) > DISTURBED):
        tries.append(run_until_it_ends(console, module, case, arm, asked))
    return min(tries, key=lambda each: each["others_cores"])


def run_until_it_ends(console: Console, module: str, case: Case, arm: Arm, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure an arm; once more where it hangs, and say so: Keras' forks of a process with TensorFlow in it may."""
    for _ in range(ATTEMPTS - 1):
        try:
            return run_in_process(module, case, arm, asked)
        except subprocess.TimeoutExpired:
            console.print(f"hung, and is run again: {case.name}: {arm.name}", style="yellow")
    try:
        return run_in_process(module, case, arm, asked)
    except subprocess.TimeoutExpired:
        raise ArmFailed(f"{case.name}: {arm.name} hung {ATTEMPTS} times") from None


def run_in_process(module: str, case: Case, arm: Arm, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure an arm in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        result, errors = Path(folder, "result.json"), Path(folder, "errors")
        times = [str(asked.seconds), str(asked.longest)]
        command = [sys.executable, "-m", "benchmarks.meter", module, case.name, arm.name, *times, str(result)]
        with errors.open("w") as file:
            ran = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **CAPS},
                stdout=file,
                stderr=file,
                start_new_session=True,  # so that what an arm leaves behind can be ended with it
            )
            try:
                ran.wait(PATIENCE + asked.seconds)
            finally:
                end_all(ran)
        if ran.returncode or not result.exists():
            last = "\n".join(errors.read_text(errors="replace").splitlines()[-15:])
            raise ArmFailed(f"{case.name}: {arm.name} ended with exit status {ran.returncode}\n{last}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def end_all(ran: subprocess.Popen[bytes]) -> None:
    """End an arm with all that it started. Python's resource tracker outlives the polite way, and tidies up then."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(ran.pid, signal.SIGTERM)
        for _ in range(30):
            time.sleep(0.1)
            ran.poll()
            os.killpg(ran.pid, 0)
        os.killpg(ran.pid, signal.SIGKILL)
    ran.wait()


def command_of(command: str, asked: argparse.Namespace) -> str:
    """Return the line that measures this again; not where its figures were written to."""
    told = f"python -m {command} --seconds {asked.seconds:g} --repeats {asked.repeats} --longest {asked.longest:g}"
    told += " --short" if asked.short else ""
    told += f" --case {shlex.quote(asked.case)}" if asked.case else ""
    return told + "".join(f" --only {shlex.quote(text)}" for text in asked.only)


def begin(cores: int | None = None) -> tuple[dict[str, str], Console]:
    """Print what the figures of a benchmark depend on; return that, and the console for what follows.

    Args:
        cores: How many this process, and those that it starts, may use; all that there are where None.
    """
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    machine, console = describe_machine(), Console(width=110)
    console.print(*(f"{name} {text}" for name, text in machine.items()), sep="   ", highlight=False, soft_wrap=True)
    return machine, console


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
