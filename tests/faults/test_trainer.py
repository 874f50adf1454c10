"""A trainer is killed, or stopped, with batches in hand: others do not notice; its slots come back when it is dead."""

import signal
import subprocess
import sys

import pytest

import loader_client
from tests.end_to_end.conftest import PATIENCE
from tests.faults.data import hashes, noisy
from tests.faults.trainer import ROOT, Trainer
from tests.faults.watch import status_of
from tests.waiting import wait_until

DATASET = noisy()

#: Takes some batches, stops itself, and looks at them again when it goes on.
STOPS = """
import os, signal, sys
import loader_client
from tests.faults.data import hash_of, noisy

with loader_client.connect() as loader:
    stream = loader.stream(noisy())
    batches = [stream.take(n) for n in range(3)]
    before = [hash_of(batch) for batch in batches]
    print("stops", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    assert [hash_of(batch) for batch in batches] == before
    print(*before, *[hash_of(stream.take(n)) for n in range(3, 40)], flush=True)
"""


def streams_of(daemon, trainer):
    return [stream for stream in status_of(daemon.address)["streams"] if stream["client_pid"] == trainer.process.pid]


def slots(daemon):
    (dataset,) = status_of(daemon.address)["datasets"]
    return dataset["slots"]


def test_the_slots_of_a_killed_trainer_come_back_and_another_does_not_notice(start_daemon, address, tmp_path):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(DATASET)
        got = [stream.take(0)]
        trainer = Trainer(address, tmp_path / "ledger", "--pace", "1000")  # has batches in hand, and others ahead
        wait_until(lambda: trainer.new_steps())
        wait_until(lambda: streams_of(daemon, trainer)[0]["holds"] > 2)

        trainer.kill()
        got += [stream.take(n) for n in range(1, 60)]

        wait_until(lambda: len(status_of(daemon.address)["streams"]) == 1)
        assert hashes(got) == hashes(map(DATASET.compute, range(60)))
        assert stream.stats()["longest_wait_seconds"] < 1
        del got
        stream.close()
        wait_until(lambda: slots(daemon)["lent"] == slots(daemon)["filling"] == 0)


@pytest.mark.slow
def test_no_slot_is_lost_over_many_killed_trainers(start_daemon, address, tmp_path):
    """Each is killed with batches in hand; memory is for one of them, and a little more."""
    daemon = start_daemon("--workers", "1", "--memory", "1 MiB")
    seen = []
    for life in range(6):
        trainer = Trainer(address, tmp_path / "ledger", "--dataset", "table", "--prefetch", "100")
        wait_until(lambda trainer=trainer: seen.extend(trainer.new_steps()) or len(seen) > 40 * (life + 1))  # noqa: B023
        trainer.kill()
        seen += trainer.new_steps()
        if life == 0:
            count = slots(daemon)["count"]
    wait_until(lambda: not status_of(daemon.address)["streams"])

    assert slots(daemon)["count"] == count
    assert slots(daemon)["lent"] == 0


@pytest.mark.slow
def test_a_killed_trainer_goes_on_behind_its_last_saved_state(start_daemon, address, tmp_path):
    start_daemon("--workers", "2")
    trainer, steps = Trainer(address, tmp_path / "ledger", "--pace", "0.002"), []
    for life in range(4):
        goal = 25 * (life + 1)
        wait_until(lambda goal=goal: steps.extend(trainer.new_steps()) or len(steps) >= goal)
        trainer.kill()
        trainer.start()
    wait_until(lambda: steps.extend(trainer.new_steps()) or len(steps) >= 125)
    trainer.end()

    assert [step.n for step in steps] == list(range(len(steps)))
    assert [step.hash for step in steps] == hashes(map(DATASET.compute, range(len(steps))))


@pytest.mark.slow
@pytest.mark.parametrize("memory", [[], ["--memory", "1 MiB"]], ids=["", "few slots"])
def test_a_stopped_trainer_keeps_its_slots_and_goes_on_as_if_nothing_had_been(start_daemon, memory):
    """A debugger, or Ctrl-Z: silence is not death."""
    daemon = start_daemon("--workers", "2", *memory)
    stopped = subprocess.Popen([sys.executable, "-c", STOPS], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert stopped.stdout.readline() == "stops\n"
    wait_until(lambda: state_of(stopped.pid) == "T")
    with loader_client.connect() as loader:
        stream = loader.stream(DATASET)
        got = hashes([*stream, *stream, *stream])
        (held,) = [each["holds"] for each in status_of(daemon.address)["streams"] if each["client_pid"] == stopped.pid]

    stopped.send_signal(signal.SIGCONT)
    told, _ = stopped.communicate(timeout=PATIENCE)
    assert got == hashes(map(DATASET.compute, range(90)))
    assert held >= 3
    assert told.split() == hashes(map(DATASET.compute, range(40)))


def state_of(pid):
    """Return the letter by which the kernel tells what a process does."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
