"""Where the containers run: the Docker engine that answers, or one of our own in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 60  # seconds for an engine to start, and to end


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """Have `docker` work for the length of the block. An engine of our own leaves nothing: no image, no volume."""
    if answers():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="loader-engine-") as name:
        folder = Path(name)
        os.environ["DOCKER_HOST"] = f"unix://{folder}/socket"
        # Our containers have no network, so the machine's bridges and firewall stay as they are.
        options = ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--host", os.environ["DOCKER_HOST"]]
        folders = [f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(["dockerd", *options, *folders], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers():
                words = (folder / "log").read_text()[-2000:]
                assert process.poll() is None and time.monotonic() < deadline, f"dockerd did not start:\n{words}"
                select.select([], [], [], 0.2)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)
            del os.environ["DOCKER_HOST"]
            mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
            for mount in mounts:
                if mount.startswith(f"{folder}/"):  # the namespace of containers without a network
                    subprocess.run(["umount", mount], check=True)


def answers() -> bool:
    """Whether there is an engine at $DOCKER_HOST, or at its usual place."""
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def docker(*arguments: object, patience: float = 600) -> str:
    """Run `docker`, and return what it prints."""
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()
