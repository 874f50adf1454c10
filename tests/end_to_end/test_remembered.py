"""What workers find out about JPEGs, they find out for each other."""

import json
import subprocess
from pathlib import Path

import pytest

from loader_service.dataset.sources import jpeg_region
from tests.end_to_end.conftest import COMMAND


def shared_with_forks(pid):
    """Return which memory without a file, by its number, a process shares with others."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "/dev/zero" in line}


@pytest.mark.skipif(jpeg_region.kernel() is None, reason="the kernel is not built here")
@pytest.mark.usefixtures("address")
def test_all_workers_of_a_daemon_remember_in_the_same_place():
    """Workers come and go, and each meets a file once in many epochs: what it finds out is not for itself."""
    subprocess.run([COMMAND, "start", "--workers", "2", "--detach"], check=True)
    told = json.loads(subprocess.check_output([COMMAND, "status", "--json"], text=True))
    one, other = (shared_with_forks(worker["pid"]) for worker in told["workers"])
    subprocess.run([COMMAND, "stop"], check=True)

    assert one & other
