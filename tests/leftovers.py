"""Finds what a test left behind: processes that carry its marker, descriptors, mappings."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKER = "LOADER_SERVICE_TEST"  # an environment variable that every process of a test inherits
PATIENCE = 10.0  # seconds that ending processes and freed memory may take to be gone
OURS = ("/memfd:loader-service", "socket:")


@dataclass(frozen=True)
class Leftovers:
    """What this process holds, and which processes carry the test's marker."""

    descriptors: Counter[str]
    mappings: int
    processes: frozenset[int]

    @classmethod
    def now(cls) -> Leftovers:
        """Look."""
        gc.collect()
        kinds: Counter[str] = Counter()
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = str(entry.readlink())
            except FileNotFoundError:
                continue
            kinds.update(kind for kind in OURS if target.startswith(kind))
        maps = Path("/proc/self/maps").read_text()
        return cls(kinds, maps.count("/memfd:loader-service"), frozenset(_marked()))

    def fail_on_more(self) -> None:
        """Fail if there is more now than when this was taken; what is just ending may take its time."""
        deadline = time.monotonic() + PATIENCE
        while (more := self._more(Leftovers.now())) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in _marked():
            psutil.Process(pid).kill()
        assert not more, more

    def _more(self, now: Leftovers) -> list[str]:
        found = [
            f"{now.descriptors[kind] - self.descriptors[kind]} descriptors of {kind}"
            for kind in OURS
            if now.descriptors[kind] > self.descriptors[kind]
        ]
        if now.mappings > self.mappings:
            found.append(f"{now.mappings - self.mappings} mappings")
        for pid in now.processes - self.processes:
            try:
                found.append(f"process {pid}: {' '.join(psutil.Process(pid).cmdline())}")
            except psutil.NoSuchProcess:
                continue
        return found


def _marked() -> list[int]:
    """Return the pids of all other living processes with this test's marker."""
    marker = f"{MARKER}={os.environ.get(MARKER)}".encode()
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                pids.append(int(folder.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue
    return pids
