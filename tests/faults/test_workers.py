"""Workers die: of signals, by their own hand, at any moment of their work. Their rows are made again, and the same."""

import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest

import loader_client
from loader_service import Dataset
from loader_service.protocol.errors import LoaderError
from tests.end_to_end.conftest import digest, expected_digest
from tests.faults.watch import status_of, workers_of
from tests.waiting import wait_until

#: Sample 13 ends its worker, once.
DIES_ONCE = """
import ctypes, os, signal, sys
MARKER = {marker!r}

def die(sample):
    if sample["x"][0] == 13 and not os.path.exists(MARKER):
        open(MARKER, "w").close()
        {deed}
    return sample
"""

#: A source that fills rows itself, and stops when so many of a task's rows are written: once.
STOPS_ONCE = """
import os, time
import numpy as np
MARKER = {marker!r}

class Rows:
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return {{"x": np.full(4, i, np.float32)}}

    def read_rows(self, ids, out):
        out["x"][:] = -1
        for row, i in enumerate(ids):
            if row == {row}:
                self.stop(ids)
            out["x"][row] = i
        if {row} < 0:
            self.stop(ids)

    def stop(self, ids):
        if os.path.exists(MARKER) or max(ids) < 2:  # the first two are read on trial, before any batch is made
            return
        mine = f"{{MARKER}}.{{os.getpid()}}"
        with open(mine, "w") as file:
            file.write(str(os.getpid()))
        try:
            os.link(mine, MARKER)
        except FileExistsError:
            return  # another one was first
        time.sleep(1000)
"""


#: A module that nobody can import until it is told to: who tries leaves its pid.
WAITS = """
import os, time
with open({pids!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
while not os.path.exists({pids!r} + ".go"):
    time.sleep(0.01)

def same(sample):
    return sample
"""

#: A sample has its worker say something that no worker says, once.
BABBLES = """
import gc, json, os
from loader_service.protocol.link import Link
from loader_service.protocol.messages import WorkerJoined
MARKER = {marker!r}

def babble(sample):
    try:
        os.close(os.open(MARKER, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return sample
    (link,) = [found for found in gc.get_objects() if isinstance(found, Link)]
    {deed}
    return sample
"""


@pytest.fixture
def numbers():
    """64 rows, each full of its own number."""
    return Dataset.from_arrays(x=np.repeat(np.arange(64, dtype=np.float32)[:, None], 4, axis=1))


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),  # as the OOM killer does
        ("os._exit(7)", "ended with exit code 7"),
        ("sys.exit(3)", "ended with exit code 3"),
        ("ctypes.string_at(0)", "killed by SIGSEGV"),
        ("os.abort()", "killed by SIGABRT"),
        ("os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
    ids=["kill -9", "os._exit", "sys.exit", "segfault", "abort", "a signal without a name"],
)
def test_a_worker_that_ends_amid_its_rows_changes_nothing(standing, user_module, numbers, tmp_path, deed, told):
    user_module("deadly", DIES_ONCE.format(marker=str(tmp_path / "marker"), deed=deed))
    dataset = numbers.map("deadly:die").shuffle(seed=5).batch(8)
    before, logged = status_of(standing.address), len(standing.log.read_text())
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(dataset)
        got = digest([*stream, *stream])
        status = status_of(standing.address)

    assert (tmp_path / "marker").exists()
    assert got == expected_digest(dataset, range(16))
    assert status["workers_lost"] - before["workers_lost"] == 1
    assert 0 < status["rows_redone"] - before["rows_redone"] <= 64
    assert told in standing.log.read_text()[logged:]


def kill_at(marker):
    """Kill the worker that leaves its pid in a file. Return a thread, and when it was done, in a list."""
    when = []

    def kill():
        wait_until(marker.exists)
        os.kill(int(marker.read_text()), signal.SIGKILL)
        when.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    return killer, when


@pytest.mark.parametrize("row", [0, 3, -1], ids=["nothing written", "half written", "all written, nothing said"])
def test_a_worker_that_is_killed_while_it_writes_changes_nothing(standing, user_module, tmp_path, row):
    marker = tmp_path / "marker"
    user_module("stops", STOPS_ONCE.format(marker=str(marker), row=row))
    dataset = Dataset.from_python("stops:Rows").shuffle(seed=5).batch(8)
    lost = status_of(standing.address)["workers_lost"]
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(dataset)
        killer, _ = kill_at(marker)
        got = digest(stream)
        killer.join()

        assert status_of(standing.address)["workers_lost"] == lost + 1
    assert got == expected_digest(dataset, range(8))


def test_a_worker_that_is_killed_while_it_waits_is_replaced_and_nothing_is_made_again(standing, numbers):
    dataset = numbers.shuffle(seed=5).batch(8)
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(dataset, prefetch=2)
        got = [stream.take(0)]
        wait_until(lambda: {worker["state"] for worker in status_of(standing.address)["workers"]} == {"ready"})
        before = status_of(standing.address)
        dead = set(workers_of(standing.address))
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(standing.address)) - dead) == 2)
        got += [stream.take(n) for n in range(1, 8)]

        assert digest(got) == expected_digest(dataset, range(8))
    after = status_of(standing.address)
    assert after["workers_lost"] - before["workers_lost"] == 2
    assert after["rows_redone"] == before["rows_redone"]


def test_a_dead_worker_is_replaced_by_a_fork_that_has_nothing_left_to_import(standing):
    """How soon, `benchmarks/recovery.py` measures; to import anew takes half a second of CPU, whatever else runs."""
    before = set(workers_of(standing.address))
    dead = psutil.Process(min(before))
    template = dead.ppid()
    dead.kill()
    wait_until(lambda: len(set(workers_of(standing.address)) - {dead.pid}) == 2)
    (replacement,) = set(workers_of(standing.address)) - before

    assert psutil.Process(replacement).ppid() == template
    cpu = psutil.Process(replacement).cpu_times()
    assert cpu.user + cpu.system < 0.1


def test_the_rows_of_a_dead_worker_come_within_half_a_second(standing, user_module, tmp_path):
    """The quickest of three: others run here."""
    late = []
    for attempt in range(3):
        marker = tmp_path / f"marker-{attempt}"
        user_module(f"stops_{attempt}", STOPS_ONCE.format(marker=str(marker), row=3))
        with loader_client.connect(standing.address) as loader:
            stream = loader.stream(Dataset.from_python(f"stops_{attempt}:Rows").batch(64))
            killer, when = kill_at(marker)
            stream.take(0)
            arrived = time.monotonic()
            killer.join()
            late.append(arrived - when[0])

    assert min(late) < 0.5


@pytest.mark.parametrize(
    "deed",
    ["link.socket.send(b'garbage')", "link.send(WorkerJoined())", "link.lifeline.close()"],
    ids=["garbage", "the same again", "nothing more"],
)
def test_a_worker_that_babbles_is_replaced_and_its_rows_are_made_again(standing, user_module, numbers, tmp_path, deed):
    module = "babbling"
    user_module(module, BABBLES.format(marker=str(tmp_path / "marker"), deed=deed))
    dataset = numbers.map(f"{module}:babble").shuffle(seed=5).batch(8)
    lost = status_of(standing.address)["workers_lost"]
    with loader_client.connect(standing.address) as loader:
        stream = loader.stream(dataset, prefetch=2)
        got = digest([*stream, *stream])

        assert got == expected_digest(dataset, range(16))
        wait_until(lambda: status_of(standing.address)["workers_lost"] > lost)


def test_workers_that_are_killed_while_they_open_a_dataset_do_not_speak_against_it(
    standing, user_module, numbers, tmp_path
):
    """Anybody may have killed them. What ends by itself while it opens a dataset does speak against it."""
    pids = tmp_path / "pids"
    user_module("waits", WAITS.format(pids=str(pids)))
    dataset = numbers.map("waits:same").batch(8)
    digests = []

    def read():
        with loader_client.connect(standing.address) as loader:
            digests.append(digest(loader.stream(dataset)))

    reader = threading.Thread(target=read)
    reader.start()
    for killed in range(6):
        wait_until(lambda killed=killed: pids.exists() and len(pids.read_text().splitlines()) > killed)
        os.kill(int(pids.read_text().splitlines()[killed]), signal.SIGKILL)
    (tmp_path / "pids.go").touch()
    reader.join()

    assert digests == [expected_digest(dataset, range(8))]


def test_a_file_that_is_cut_short_while_it_is_copied_costs_workers_and_nothing_else(standing, tmp_path):
    """Workers have mapped what they have read: what is cut off meanwhile is met by the processor, not by a call."""
    path = tmp_path / "0.npy"
    np.save(path, np.zeros(2**22, np.float32))
    nbytes, dataset = path.stat().st_size, Dataset.from_npy_files(tmp_path).batch(1)
    lost = status_of(standing.address)["workers_lost"]

    def a_worker_is_lost():
        with loader_client.connect(standing.address) as loader:
            stream, cutter = loader.stream(dataset), threading.Thread(target=os.truncate, args=(path, 4096))
            with pytest.raises(LoaderError, match=r"0\.npy"):
                for n in range(1000):
                    if n == 20:  # each worker has read it, and is copying it again
                        cutter.start()
                    assert stream.take(n)["x"][0, -1] == 0
            cutter.join()
            os.truncate(path, nbytes)  # what was cut off is zeros again
        return status_of(standing.address)["workers_lost"] > lost

    wait_until(a_worker_is_lost)
    assert "killed by SIGBUS" in standing.log.read_text()
    with loader_client.connect(standing.address) as loader:
        assert digest(loader.stream(dataset)) == expected_digest(dataset, range(1))
