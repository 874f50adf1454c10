"""The daemon as its owner uses it: start, status, scale, stop; and what it survives."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import loader_client
from loader_client import DaemonStopped, ProtocolError
from loader_service import Dataset
from loader_service.protocol.address import Address
from loader_service.protocol.lifeline import Lifeline, greet
from loader_service.protocol.messages import PROTOCOL, Failed, Hello
from tests.end_to_end.conftest import COMMAND, PATIENCE, digest, expected_digest, is_alive
from tests.waiting import wait_until

AS_PROCESS_1 = """
import ctypes, sys
from loader_service.cli import main
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become its children, as in a container
sys.argv = ["loader-service", "start", "--workers", "2", "--json"]
main()
"""


def command(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_the_ready_line_names_address_workers_and_memory(address):
    process = subprocess.Popen(
        [COMMAND, "start", "--workers", "2", "--memory", "2 GiB"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)

    assert line.startswith(f"ready  {address}  2 workers  2.0 GiB shared memory")
    assert process.returncode == 0


def test_a_detached_daemon_names_its_log_and_is_stopped_by_stop(address):
    started = command("start", "--workers", "1", "--detach", "--json")
    told = json.loads(started.stdout)
    status = json.loads(command("status", "--json").stdout)
    stopped = command("stop")

    assert told["address"] == status["address"] == address
    assert "stopping" in Path(told["log"]).read_text()
    assert stopped.returncode == 0
    assert address in stopped.stdout
    wait_until(lambda: not is_alive(told["pid"]), seconds=5)


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["scale", "2"], ["stop"]])
def test_the_exit_status_is_3_where_no_daemon_answers(arguments):
    done = command(*arguments)

    assert done.returncode == 3
    assert "no daemon answers at" in done.stderr
    assert done.stdout == ""


def test_an_address_in_use_is_refused_and_the_daemon_that_holds_it_lives_on(start_daemon):
    """libzmq's own bind would silently take the address over."""
    daemon = start_daemon("--workers", "1")

    second = command("start", "--workers", "1")

    assert second.returncode == 1
    assert f"in use by a live daemon (pid {daemon.ready['pid']})" in second.stderr
    assert daemon.status()["pid"] == daemon.ready["pid"]


def test_a_killed_daemon_leaves_no_process_and_its_address_is_free(start_daemon):
    daemon = start_daemon("--workers", "2")
    workers = daemon.worker_pids()

    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(map(is_alive, workers)), seconds=5)

    assert start_daemon("--workers", "1").status()["workers"]


def test_status_is_one_object_and_a_table(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)
        next(iter(stream))
        told, table = daemon.status(), daemon.command("status")

    assert {"address", "version", "pid", "workers", "streams", "memory"} <= told.keys()
    assert [worker["state"] in ("ready", "busy") for worker in told["workers"]] == [True, True]
    assert told["streams"][0]["client_pid"] == os.getpid()
    assert "workers: 2" in table
    assert augmented.key[:6] in table


def test_scaling_under_load_loses_repeats_and_changes_nothing(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    batches, stop = [], threading.Event()
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)

        def read():
            while not stop.is_set():
                batches.append(stream.take(len(batches)))

        reader = threading.Thread(target=read)
        reader.start()
        began = time.monotonic()
        more = json.loads(daemon.command("scale", "4", "--json"))
        took = time.monotonic() - began
        less = json.loads(daemon.command("scale", "1", "--json"))
        enough = len(batches) + 20
        wait_until(lambda: len(batches) > enough, seconds=30)
        stop.set()
        reader.join()

        assert (len(more["workers"]), len(less["workers"])) == (4, 1)
        assert took < 10  # of a machine that does other things as well
        assert [batch.n for batch in batches] == list(range(len(batches)))
        assert digest(batches) == expected_digest(augmented, range(len(batches)))


def test_killed_workers_are_replaced_and_the_bytes_are_the_same(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    batches = []
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)
        for kills in range(5):
            os.kill(daemon.worker_pids()[kills % 2], signal.SIGKILL)
            batches += [stream.take(len(batches) + i) for i in range(8)]
        assert digest(batches) == expected_digest(augmented, range(40))
        wait_until(lambda: daemon.status()["workers_lost"] == 5 and len(daemon.worker_pids()) == 2, seconds=10)

    assert daemon.end().count("killed by SIGKILL") == 5


def test_as_process_1_of_a_container_it_leaves_no_zombies_of_workers(address):
    """Workers that outlive their template become children of process 1, which has to reap them."""
    process = subprocess.Popen(
        [sys.executable, "-c", AS_PROCESS_1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    daemon = psutil.Process(process.pid)
    (template,) = daemon.children()
    workers = template.children()

    template.kill()

    wait_until(lambda: not any(worker.is_running() for worker in workers), seconds=20)
    wait_until(lambda: len(daemon.children(recursive=True)) == 3, seconds=20)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_killed_template_is_replaced_with_all_its_workers(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    workers = daemon.worker_pids()
    template = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
    with loader_client.connect() as loader:
        stream = loader.stream(augmented)
        first = [stream.take(n) for n in range(5)]
        os.kill(template, signal.SIGKILL)
        rest = [stream.take(n) for n in range(5, 30)]
        assert digest(first + rest) == expected_digest(augmented, range(30))

    wait_until(lambda: not set(workers) & set(daemon.worker_pids()), seconds=5)
    assert not any(map(is_alive, workers))


def test_a_private_daemon_forks_its_template_and_starts_another_one_when_that_is_killed(augmented):
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented)
        batches = [stream.take(n) for n in range(3)]
        (daemon,) = psutil.Process().children()
        (template,) = daemon.children()
        workers = template.children()
        assert sorted(worker.name() for worker in workers) == ["loader-worker-0", "loader-worker-1"]
        assert template.cmdline() == daemon.cmdline()  # a fork of the daemon itself
        template.kill()
        batches += [stream.take(n) for n in range(3, 20)]
        assert digest(batches) == expected_digest(augmented, range(20))
        wait_until(lambda: not any(worker.is_running() for worker in workers), seconds=5)


def test_a_sample_that_kills_every_worker_is_an_error_not_a_hang(start_daemon, pictures, user_module):
    user_module(
        "deadly", "import os\ndef die(sample):\n    if sample['label'] == 1:\n        os._exit(7)\n    return sample\n"
    )
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).map("deadly:die").batch(37)
    start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(dataset, prefetch=2)
        assert stream.take(0).n == 0

        with pytest.raises(loader_client.SampleError, match="workers died while each made it alone"):
            stream.take(1)


def test_a_client_of_another_protocol_gets_one_clear_sentence(start_daemon, address):
    start_daemon("--workers", "1")
    lifeline = Lifeline.connect(Address.parse(address).lifeline, patience=5)

    answer = greet(lifeline, Hello(PROTOCOL + 1, "client", os.urandom(16), "9.9.9"))
    lifeline.close()

    assert isinstance(answer, Failed)
    assert answer.name == ProtocolError.__name__
    assert f"(loader-service 9.9.9) speaks protocol {PROTOCOL + 1}" in answer.message
    assert "install the same version on both sides" in answer.message


def test_a_stranger_that_says_nothing_does_not_keep_others_out(start_daemon, address, augmented):
    start_daemon("--workers", "1")
    silent = [Lifeline.connect(Address.parse(address).lifeline, patience=5) for _ in range(20)]

    with loader_client.connect() as loader:
        assert loader.stream(augmented).take(0).n == 0
    for lifeline in silent:
        lifeline.close()


def test_ctrl_c_ends_a_daemon_in_the_foreground_with_exit_status_0(start_daemon, augmented):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=1)
        stream.take(0)
        log = daemon.end()

        with pytest.raises(DaemonStopped):
            for n in range(1, 20):
                stream.take(n)

    assert daemon.process.returncode == 0
    assert "Traceback" not in log


@pytest.mark.slow
def test_prints_warnings_and_logs_of_workers_reach_the_daemons_log(pictures, user_module):
    user_module(
        "talkative",
        "import logging, warnings\n"
        "def say(sample):\n"
        "    print('a print')\n"
        "    warnings.warn('a warning')\n"
        "    logging.error('a log line')\n"
        "    return sample\n",
    )
    log = json.loads(command("start", "--workers", "1", "--detach", "--json").stdout)["log"]
    with loader_client.connect() as loader:
        list(loader.stream(Dataset.from_image_folder(pictures).resize(8, 8).map("talkative:say").batch(37)))
    command("stop")

    told = Path(log).read_text()
    assert "a print" in told
    assert "UserWarning: a warning" in told
    assert "a log line" in told
