"""What control groups say, in the files that kernels write; a real limit is tried by tests/containers."""

import pytest

from loader_service.cgroup import core_quota, memory_room

MIB = 2**20


@pytest.fixture
def groups(tmp_path):
    """Return a function that writes groups as /sys/fs/cgroup shows them, and whose members we are."""

    def write(membership, **files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "membership").write_text(membership)
        return {"root": tmp_path / "cgroup", "membership": tmp_path / "membership"}

    return write


def memory_v2(folder, limit, use, cache=0):
    stat = f"anon 1\nfile {cache}\ninactive_file {cache}\nactive_file 0\n"
    return {f"{folder}memory.max": f"{limit}\n", f"{folder}memory.current": f"{use}\n", f"{folder}memory.stat": stat}


def memory_v1(folder, limit, use, cache=0):
    stat = f"cache {cache}\ninactive_file 0\ntotal_inactive_file 0\ntotal_active_file {cache}\n"
    files = {"limit_in_bytes": f"{limit}\n", "usage_in_bytes": f"{use}\n", "stat": stat}
    return {f"{folder}memory.{name}": text for name, text in files.items()}


def test_a_container_of_version_2_finds_its_limits_at_the_root(groups):
    where = groups("0::/\n", **memory_v2("", 512 * MIB, 200 * MIB), **{"cpu.max": "150000 100000\n"})

    assert memory_room(**where) == 312 * MIB
    assert core_quota(**where) == 1.5


def test_a_container_of_version_1_finds_its_limits_in_a_folder_for_each_controller(groups):
    """Its path is the one that the host sees: inside, there is no such folder."""
    where = groups(
        "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
        **memory_v1("memory/", 512 * MIB, 200 * MIB),
        **{"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
    )

    assert memory_room(**where) == 312 * MIB
    assert core_quota(**where) == 0.5


def test_a_service_is_bounded_by_every_group_above_it(groups):
    """A systemd unit with MemoryMax= in a slice with a smaller one; and CPUQuota= of the unit."""
    unit = "user.slice/loader-service.service"
    where = groups(
        f"0::/{unit}\n",
        **memory_v2("user.slice/", 400 * MIB, 350 * MIB),
        **memory_v2(f"{unit}/", 900 * MIB, 200 * MIB),
        **{f"{unit}/cpu.max": "300000 100000\n", "user.slice/cpu.max": "max 100000\n"},
    )

    assert memory_room(**where) == 50 * MIB
    assert core_quota(**where) == 3


@pytest.mark.parametrize(("membership", "files"), [("0::/\n", memory_v2), ("5:memory:/\n", memory_v1)])
def test_pages_of_files_that_were_read_are_room(groups, membership, files):
    """Or a daemon would refuse streams as soon as its workers have read as much as its container may hold."""
    folder = "" if files is memory_v2 else "memory/"
    where = groups(membership, **files(folder, 512 * MIB, 500 * MIB, cache=300 * MIB))

    assert memory_room(**where) == 312 * MIB


def test_without_a_limit_there_is_none(groups):
    where = groups("0::/\n", **memory_v2("", "max", MIB), **{"cpu.max": "max 100000\n"})
    of_version_1 = groups("3:cpu:/\n", **{"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"})
    nowhere = {"root": where["root"] / "none", "membership": where["root"] / "none"}

    assert memory_room(**where) is None
    assert [core_quota(**each) for each in (where, of_version_1, nowhere)] == [None, None, None]
    assert memory_room(**nowhere) is None
