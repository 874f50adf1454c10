"""docker-compose.yml, run for real: it trains to its end, also when the daemon is killed twice on the way.

    make test-containers

Needs root, Docker with Compose, and some gigabytes; where no registry of images can be reached, debootstrap as well.
What it starts is gone at its end. On an engine that ran before, the images stay: they are the next build's cache.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.containers import images
from tests.containers.engine import docker, engine
from tests.containers.images import ROOT

PROJECT = "loader-service-test"
PATIENCE = 300  # seconds for a training
STOP_PATIENCE = 8.0  # seconds for a container to end when it is told to; Docker kills it after 10
EPOCH = 45  # batches
GIB = 2**30
APART = {"NetworkMode": "none", "PidMode": "", "IpcMode": "private", "UTSMode": ""}  # namespaces of its own


def main() -> None:
    """Run all of it."""
    with engine():
        images.build()
        for scenario in (
            trains_to_its_end,
            survives_kills_of_its_daemon,
            ends_in_seconds,
            keeps_within_its_limits,
            serves_its_uid,
        ):
            began = time.monotonic()
            scenario()
            print(f"passed: {scenario.__name__.replace('_', ' ')}  ({time.monotonic() - began:.0f} s)", flush=True)


def trains_to_its_end() -> None:
    """`docker compose up`: exit code 0, and the two containers share two volumes and nothing else."""
    with composed():
        subprocess.run(
            [*compose(), "up", "--no-build", "--exit-code-from", "trainer"], cwd=ROOT, check=True, timeout=PATIENCE
        )

        daemon, trainer = (inspect(service) for service in images.TARGETS)
        for container in (daemon, trainer):
            host = container["HostConfig"]
            assert {key: host[key] for key in APART} == APART, host
            assert not host["VolumesFrom"] and not host["Links"] and host["Memory"] > 0, host
            assert not container["State"]["OOMKilled"]
            assert container["Config"]["User"] == "loader"
        assert volumes(daemon) == volumes(trainer)
        assert [path for path, _ in volumes(daemon)] == ["/data", "/run/loader-service"]
        print("shared:", ", ".join(f"{name} at {path}" for path, name in volumes(daemon)), flush=True)


def survives_kills_of_its_daemon() -> None:
    """Killed in mid-epoch from outside, it is restarted by its policy; killed by `docker kill`, it is started again."""
    with composed():
        subprocess.run([*compose(), "up", "--no-build", "--detach"], cwd=ROOT, check=True, timeout=PATIENCE)
        wait_until(in_mid_epoch, PATIENCE)
        os.kill(inspect("daemon")["State"]["Pid"], signal.SIGKILL)  # as when it runs out of memory
        print("daemon killed by SIGKILL", flush=True)
        wait_until(lambda: inspect("daemon")["RestartCount"] == 1, PATIENCE)
        wait_until(in_mid_epoch, PATIENCE)
        docker("kill", identify("daemon"))
        print("daemon killed by docker kill", flush=True)
        docker("start", identify("daemon"))
        wait_until(in_mid_epoch, PATIENCE)

        code = docker("wait", identify("trainer"), patience=PATIENCE)
        print(docker("logs", identify("trainer")), flush=True)
        assert code == "0", f"the trainer's exit code is {code}"


def ends_in_seconds() -> None:
    """Daemon and training are process 1 of their containers, and heed SIGTERM and Ctrl-C."""
    with composed():
        subprocess.run([*compose(), "up", "--no-build", "--detach"], cwd=ROOT, check=True, timeout=PATIENCE)
        wait_until(in_mid_epoch, PATIENCE)
        for service, code in (("trainer", 128 + signal.SIGTERM), ("daemon", 0)):
            took = seconds(functools.partial(docker, "stop", identify(service)))
            assert took < STOP_PATIENCE, f"{service}: docker stop took {took:.1f} s"
            assert inspect(service)["State"]["ExitCode"] == code, inspect(service)["State"]
            print(f"docker stop {service}: {took:.1f} s", flush=True)
        docker("start", identify("daemon"))
        wait_until(lambda: inspect("daemon")["State"]["Health"]["Status"] == "healthy", PATIENCE)
        docker("kill", "--signal", "INT", identify("daemon"))
        assert docker("wait", identify("daemon"), patience=STOP_PATIENCE) == "0"


def keeps_within_its_limits() -> None:
    """Defaults come from the container's limits, not from the machine's size; pages of files are no use of memory."""
    script = """
    python3 -c 'from loader_service.config import usable_cores; print(usable_cores())'
    dd if=/dev/zero of=/data/large bs=1M count=500 2> /dev/null; cat /data/large > /dev/null
    loader-service start --workers 1 --detach --json
    """
    options = ["--rm", "--network", "none", "--memory", "512m", "--cpus", "1"]
    cores, told = docker("run", *options, "loader-service:daemon", "sh", "-c", script).splitlines()
    memory = json.loads(told)["memory"]
    print(f"in 512 MiB and 1 core: usable cores {cores}, shared memory {memory / 2**20:.0f} MiB", flush=True)
    assert cores == "1"
    assert 0.25 * GIB / 2 < memory < 0.5 * GIB / 2


def serves_its_uid() -> None:
    """A daemon of any uid, in a folder that is root's and open to all, as in Kubernetes, serves that uid alone."""
    with tempfile.TemporaryDirectory(prefix="loader-address-") as folder:
        Path(folder).chmod(0o2777)
        options = ["--rm", "--network", "none", "--volume", f"{folder}:/run/loader-service"]
        daemon = docker("run", "--detach", *options, "--user", "12345:12345", "loader-service:daemon")
        try:
            status = [*options, "loader-service:daemon", "loader-service", "status"]
            wait_until(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", daemon) == "healthy", PATIENCE)
            docker("run", "--user", "12345:12345", *status)
            others = subprocess.run(["docker", "run", *status], capture_output=True, text=True, check=False)
            assert others.returncode == 1 and "belongs to another user" in others.stderr, others
        finally:
            docker("stop", daemon)


# -- Compose -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def composed() -> Iterator[None]:
    """Leave no container and no volume of the block."""
    try:
        yield
    finally:
        subprocess.run([*compose(), "down", "--volumes", "--timeout", "10"], cwd=ROOT, check=True, capture_output=True)


def compose() -> list[str]:
    """Return the command: Docker's plugin, or the older program."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return [*(["docker", "compose"] if plugin else ["docker-compose"]), "--project-name", PROJECT]


def identify(service: str) -> str:
    """Return the id of a service's container."""
    ran = subprocess.run([*compose(), "ps", "--all", "--quiet", service], cwd=ROOT, capture_output=True, text=True)
    return ran.stdout.strip()


def inspect(service: str) -> dict[str, Any]:
    """Return what the engine knows of a service's container."""
    container: dict[str, Any] = json.loads(docker("inspect", identify(service)))[0]
    return container


def volumes(container: dict[str, Any]) -> list[tuple[str, str]]:
    """Return path and name of all that is mounted into a container."""
    return sorted((mount["Destination"], mount.get("Name", mount["Source"])) for mount in container["Mounts"])


def made() -> int:
    """Return how many batches the daemon has made of the dataset that it made most of; 0 where none answers."""
    command = ["docker", "exec", identify("daemon"), "loader-service", "status", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        return 0
    return max((dataset["batches_made"] for dataset in json.loads(ran.stdout)["datasets"]), default=0)


def in_mid_epoch() -> bool:
    """Whether the daemon has served more than an epoch, and is neither at the beginning nor at the end of one."""
    batches = made()
    return batches > EPOCH and EPOCH // 8 < batches % EPOCH < EPOCH * 7 // 8


# -- time ----------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool], patience: float) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true within {patience:.0f} s"
        select.select([], [], [], 0.2)


def seconds(action: Callable[[], object]) -> float:
    """Return how long something took."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
