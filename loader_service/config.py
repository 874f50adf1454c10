"""What the owner of a daemon can set: the command line's options, checked once, in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {
    "": 1,
    "B": 1,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_size(value: Any) -> Any:
    """Return a size in bytes.

    >>> parse_size("1.5 GiB")
    1610612736
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2].upper() not in UNITS:
        raise ValueError(f'{value!r} is no size: expected a number and a unit, as in "4 GiB" or "500 MB"')
    return int(float(found[1]) * UNITS[found[2].upper()])


class Settings(BaseModel):
    """How a daemon runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"  # processes
    memory: Annotated[int, Field(ge=2**20), BeforeValidator(parse_size)] | None = None  # bytes of all arenas

    def worker_count(self) -> int:
        """Return the number of workers; "auto" leaves one core to the trainer."""
        return max(1, usable_cores() - 1) if self.workers == "auto" else self.workers


def usable_cores() -> int:
    """Return how many cores this process may keep busy: its affinity, and its control group's quota."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such controller, or "max"
        return cores
