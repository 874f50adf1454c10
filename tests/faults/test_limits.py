"""Too little of something: descriptors, memory. A sentence and an exit code, and who runs already goes on."""

import subprocess
import sys

import numpy as np
import pytest

import loader_client
from loader_client import NotEnoughMemory, RemoteError
from loader_service import Dataset
from loader_service.protocol.address import Address
from loader_service.protocol.lifeline import Lifeline
from tests.end_to_end.conftest import COMMAND, PATIENCE
from tests.faults.data import hash_of, hashes, noisy
from tests.faults.trainer import ROOT
from tests.faults.watch import shared_memory, workers_of
from tests.waiting import wait_until

DATASET = noisy()


@pytest.fixture
def start_within(address):
    """Return a function that starts a daemon under a limit of the shell's."""
    processes = []

    def start(limit, *options):
        command = f'ulimit {limit}; exec "$0" start --json "$@"'
        process = subprocess.Popen(
            ["bash", "-c", command, COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()
        _, told = process.communicate(timeout=PATIENCE)
        assert "Traceback" not in told


def command(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_64_descriptors_are_enough_for_two_workers(start_within):
    assert start_within("-n 64", "--workers", "2").stdout.readline()
    with loader_client.connect() as loader:
        assert hashes(loader.stream(DATASET)) == hashes(map(DATASET.compute, range(30)))


@pytest.mark.slow
def test_more_workers_than_descriptors_allow_are_refused_with_what_helps(start_within):
    too_many = start_within("-n 64", "--workers", "32")
    _, told = too_many.communicate(timeout=PATIENCE)

    assert too_many.returncode == 2
    assert "ConfigError: 32 workers need 128 file descriptors, and the daemon may have 64: raise `ulimit -n`" in told


@pytest.mark.slow
def test_scaling_beyond_the_descriptors_is_refused_and_the_daemon_goes_on(start_within):
    start_within("-n 64", "--workers", "1").stdout.readline()

    scaled = command("scale", "32")

    assert scaled.returncode == 2
    assert "32 workers need 128 file descriptors" in scaled.stderr
    with loader_client.connect() as loader:
        assert hash_of(loader.stream(DATASET).take(0)) == hash_of(DATASET.compute(0))


@pytest.mark.slow
def test_more_clients_than_descriptors_allow_are_refused_and_the_others_go_on(start_within):
    start_within("-n 64", "--workers", "2").stdout.readline()
    loaders = []
    with pytest.raises(RemoteError, match="the daemon has no file descriptors left for another client: it may have 64"):
        for _ in range(64):
            loaders.append(loader_client.connect())

    assert len(loaders) > 4
    assert hashes(loaders[0].stream(DATASET)) == hashes(map(DATASET.compute, range(30)))
    loaders.pop().close()
    wait_until(lambda: command("status").returncode == 0)
    for loader in loaders:
        loader.close()


@pytest.mark.slow
def test_a_crowd_that_says_nothing_takes_no_descriptors_that_others_need(start_within, address):
    start_within("-n 64", "--workers", "2").stdout.readline()
    with loader_client.connect() as loader:
        stream = loader.stream(DATASET, prefetch=2)
        got = [stream.take(0)]
        silent = [Lifeline.connect(Address.parse(address).lifeline, patience=5) for _ in range(100)]
        got += [stream.take(n) for n in range(1, 30)]
        for lifeline in silent:
            lifeline.close()

        assert hashes(got) == hashes(map(DATASET.compute, range(30)))
        assert command("status").returncode == 0


@pytest.mark.slow
def test_a_trainer_without_descriptors_is_told_so_in_one_line(start_daemon):
    start_daemon("--workers", "1")
    script = "import loader_client\nloader_client.connect()\n"
    command = 'ulimit -n 16; exec "$0" -c "$1"'

    ran = subprocess.run(["bash", "-c", command, sys.executable, script], capture_output=True, text=True, cwd=ROOT)

    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith(
        "may have 16 files open, too few for a connection: raise `ulimit -n`"
    ), ran.stderr


@pytest.mark.slow
def test_memory_that_the_kernel_does_not_give_is_an_error_of_that_stream_alone(start_within):
    """`ulimit -f`, in blocks of 1024 bytes, is heeded by shared memory, too: there is no machine to be filled up."""
    start_within("-f 2048", "--workers", "1").stdout.readline()
    with loader_client.connect() as loader:
        stream = loader.stream(DATASET)
        with pytest.raises(NotEnoughMemory, match=r"cannot reserve [\d,]+ bytes .*: File too large. Lower `memory`"):
            loader.stream(noisy(batch=120), prefetch=100)

        assert hashes(stream) == hashes(map(DATASET.compute, range(30)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_nobody_reads_any_more_makes_room_without_harm(start_daemon, workers):
    """Memory is for one of two datasets, and the first one's tables go when the second is being opened."""
    start_daemon("--workers", str(workers), "--memory", "1 MiB")
    with loader_client.connect() as loader:
        for batch in (120, 80, 120):
            dataset = noisy(batch)
            stream = loader.stream(dataset, prefetch=64)
            assert hashes([*stream, *stream]) == hashes(map(dataset.compute, range(2 * len(stream))))
            stream.close()
            del stream


@pytest.mark.slow
def test_arrays_that_nobody_reads_any_more_are_kept_by_no_process(start_patched, address):
    """Neither by the daemon, nor by its workers: a notebook makes one dataset after the other."""
    daemon = start_patched("import loader_service.daemon.arenas as arenas; arenas.GRACE = 0.05")

    def held():
        return [shared_memory(pid) for pid in (daemon, *workers_of(address))]

    with loader_client.connect() as loader:
        for seed in range(3):
            x = np.random.default_rng(seed).random((64, 1000))
            stream = loader.stream(Dataset.from_arrays(x=x).shuffle(seed).batch(8))
            assert len(list(stream)) == 8
            assert sum(held()) > 2 * x.nbytes
            stream.close()
            del stream
            wait_until(lambda: not any(held()))
