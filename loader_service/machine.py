"""What the machine lets this process use: cores, by affinity and by the quotas of its control groups; memory likewise;
how many files it may have open.

A limit may be set on a process's own control group or on any group above it. Where those above cannot be seen, as in
most containers, the folder that is mounted is the process's own; where a path that the kernel names is not mounted,
as in a container with version 1, the mounted root takes its place. So each folder from the root down is looked at.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
ENOUGH_DESCRIPTORS = 65536
RESERVE = 64 * 2**20  # bytes of memory that stay free, whatever happens
MEMORY_FILES = (  # limit, use, and what memory.stat calls the pages of files; version 2 and version 1
    ("memory.max", "memory.current", ("active_file", "inactive_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)


def usable_cores(mounted: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return how many cores this process may keep busy: its affinity, less what its control groups' quotas forbid."""
    quotas = [quota for group in control_groups("cpu", mounted, own) if (quota := _cpu_quota(group)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, quotas)]))


def memory_room(mounted: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int | None:
    """Return the bytes that this process's control groups have left for it; None where none has a limit."""
    rooms = [room for group in control_groups("memory", mounted, own) if (room := _memory_room(group)) is not None]
    return min(rooms, default=None)


def available_memory() -> int:
    """Return the bytes that this process may still take: what the machine has, or its control group."""
    import psutil  # a worker hardly ever asks

    available = int(psutil.virtual_memory().available)
    room = memory_room()
    return (available if room is None else min(available, room)) - RESERVE


def all_memory() -> int:
    """Return the bytes that the machine has, or what this process's control groups have left, if that is less."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = memory_room()
    return installed if room is None else min(installed, room)


def control_groups(controller: str, mounted: Path = CGROUPS, own: Path = OWN_CGROUPS) -> Iterator[Path]:
    """Yield the folder of each control group that this process is in, of version 2 and of a version 1 controller.

    Args:
        mounted: Folder in which control groups are mounted.
        own: File that names this process's groups: lines of ID:CONTROLLERS:PATH; version 2 names no controllers.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no /proc
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        for root in (mounted / controller,) if controllers else (mounted, mounted / "unified"):
            yield from (root / part for part in (group, *group.parents) if (root / part).is_dir())


def raise_descriptors() -> None:
    """Let this process have as many files open as it may allow itself, up to ENOUGH_DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, ENOUGH_DESCRIPTORS)), hard))


def most_descriptors() -> int:
    """Return how many files this process may have open at a time."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def private_memory(pid: int) -> int:
    """Return the bytes of memory that a process has for itself; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _cpu_quota(group: Path) -> float | None:
    """Return the cores that a group may keep busy; None without a limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # no such controller, or "max"
        return None
    return cores if cores > 0 else None  # version 1 says -1 where there is no limit


def _memory_room(group: Path) -> int | None:
    """Return what a group has left; None without a limit.

    Pages of files that were read are no use: the kernel gives them up before it kills anybody. Without them, a group
    that has read a large dataset would look full.
    """
    for limit, use, cache in MEMORY_FILES:
        try:
            left = int((group / limit).read_text()) - int((group / use).read_text())
        except (OSError, ValueError):  # another version, or "max"
            continue
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return left + sum(int(stat[key]) for key in cache)
    return None
