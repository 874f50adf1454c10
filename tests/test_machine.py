"""How many cores and how much memory there are: by affinity, and by control groups, nested ones too."""

import os
import subprocess
import sys

import pytest

from loader_service.config import Settings
from loader_service.machine import memory_room, usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def control_group(tmp_path):
    """Return a function that makes control groups of these files, and says that this process is in `path`."""

    def make(path, files, controllers=""):
        for name, content in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        (tmp_path / "own").write_text(f"12:pids:/elsewhere\n{0 if not controllers else 3}:{controllers}:{path}\n")
        return tmp_path / "cgroup", tmp_path / "own"

    return make


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


@pytest.mark.parametrize(
    ("path", "files", "controllers", "cores"),
    [
        ("/", {"cpu.max": "300000 100000"}, "", 3),
        ("/", {"cpu.max": "max 100000"}, "", 16),
        ("/", {"cpu.max": "250000 100000"}, "", 2),  # half a core is none to promise to a worker
        ("/", {"cpu.max": "20000 100000"}, "", 1),
        ("/user/job", {"user/job/cpu.max": "400000 100000"}, "", 4),
        ("/user/job", {"user/cpu.max": "200000 100000", "user/job/cpu.max": "400000 100000"}, "", 2),
        ("/user/job", {"user/cpu.max": "200000 100000", "user/job/cpu.max": "max 100000"}, "", 2),
        ("/user/job", {"unified/user/job/cpu.max": "500000 100000"}, "", 5),
        ("/not/mounted", {"cpu.max": "600000 100000"}, "", 6),
        ("/job", {"cpu/job/cpu.cfs_quota_us": 150_000, "cpu/job/cpu.cfs_period_us": 50_000}, "cpu,cpuacct", 3),
        ("/job", {"cpu/job/cpu.cfs_quota_us": -1, "cpu/job/cpu.cfs_period_us": 100_000}, "cpu,cpuacct", 16),
        ("/docker/1f", {"cpu/cpu.cfs_quota_us": 700_000, "cpu/cpu.cfs_period_us": 100_000}, "cpu", 7),
        ("/", {"cpu.max": "nonsense"}, "", 16),
    ],
)
def test_the_least_quota_of_all_control_groups_counts(control_group, many_cores, path, files, controllers, cores):
    assert usable_cores(*control_group(path, files, controllers)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path, tmp_path / "nothing") == CORES


def memory_2(limit, use, cache=0, folder=""):
    stat = f"anon 1\nfile {cache}\ninactive_file {cache}\nactive_file 0"
    files = {"max": limit, "current": use, "stat": stat}
    return {f"{folder}memory.{name}": content for name, content in files.items()}


def memory_1(limit, use, cache=0, folder="memory/"):
    stat = f"cache {cache}\ninactive_file 0\ntotal_inactive_file 0\ntotal_active_file {cache}"
    files = {"limit_in_bytes": limit, "usage_in_bytes": use, "stat": stat}
    return {f"{folder}memory.{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("path", "files", "controllers", "room"),
    [
        ("/", memory_2("max", 5), "", None),
        ("/job", memory_2(90, 50) | memory_2(60, 10, folder="job/"), "", 40),
        ("/job", memory_2(90, 70) | memory_2(60, 10, folder="job/"), "", 20),
        ("/job", memory_1(9, 2, folder="memory/job/"), "memory", 7),
        ("/docker/1f", memory_1(9, 2), "memory", 7),
        ("/", memory_2(512, 500, cache=300), "", 312),  # what was read from files is given up first
        ("/", memory_1(512, 500, cache=300), "memory", 312),
    ],
)
def test_the_least_room_of_all_control_groups_counts(control_group, path, files, controllers, room):
    assert memory_room(*control_group(path, files, controllers)) == room


def test_a_daemon_has_as_many_files_open_as_nobody_forbids():
    """Where the shell says 64 and means it, that is the limit; where it only says so, it is none."""
    script = "from loader_service.machine import *; raise_descriptors(); print(most_descriptors())"
    most = []
    for limit in ("-Sn 64", "-n 64"):
        command = ["bash", "-c", f'ulimit {limit}; "$0" -c "$1"', sys.executable, script]
        most.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))

    assert most[0] > most[1] == 64


def test_a_process_that_may_use_one_core_starts_one_worker():
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});" + (
        "from loader_service.config import Settings; print(Settings().worker_count())"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "1\n"


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 2), (16, 15)])
def test_auto_leaves_a_core_to_the_trainer(monkeypatch, cores, workers):
    monkeypatch.setattr("loader_service.config.usable_cores", lambda: cores)

    assert Settings(workers="auto").worker_count() == workers
