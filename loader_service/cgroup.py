"""What the control groups of this process leave it, memory and processor time; of version 1 and of version 2.

A container sees its own group as the root of /sys/fs/cgroup. A service of systemd lies deeper, and every group above
it bounds it as well. So all groups from its own up to the root are asked; those that cannot be seen say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")  # lines of NUMBER:CONTROLLERS:PATH; version 2 is the one without controllers

MEMORY = (  # limit, use, and what memory.stat calls the pages of files; version 2 and version 1
    ("memory.max", "memory.current", ("active_file", "inactive_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)


def memory_room(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Return the bytes that may still be taken before a group is at its limit; None where no group has one."""
    groups = list(_groups("memory", root, membership))
    rooms = [_room(group, *names) for group in groups for names in MEMORY]
    return min((room for room in rooms if room is not None), default=None)


def core_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many cores' time may be used; None where no group has a limit."""
    quotas = [_quota(group) for group in _groups("cpu", root, membership)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, from its own up to the root."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        group = top / path.lstrip("/")
        while group != top:
            yield group
            group = group.parent
        yield top


def _room(group: Path, limit: str, use: str, cache: tuple[str, ...]) -> int | None:
    """Return what is left of the limit.

    Pages of files that were read are no use: the kernel gives them up before it kills anybody. Without them, a group
    that has read a large dataset looks full.
    """
    try:
        left = int((group / limit).read_text()) - int((group / use).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return left + sum(int(stat[key]) for key in cache)
    except (OSError, ValueError):  # no such controller, or "max"
        return None


def _quota(group: Path) -> float | None:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None  # version 1 says -1 for none
    except (OSError, ValueError):  # no such controller, or "max"
        return None
