"""Faults are tried on what users run: real daemons, real workers, real sockets; and nothing is left of them."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from loader_service.protocol.address import Address
from loader_service.protocol.launch import end, launch
from tests.end_to_end.conftest import _clean, start_daemon, user_module

__all__ = ["_clean", "start_daemon", "user_module"]


@dataclass(frozen=True)
class Standing:
    """A daemon that lives through all tests of a file."""

    address: str
    pid: int
    log: Path


@pytest.fixture
def start_patched(address, tmp_path, monkeypatch):
    """Return a function that starts a daemon in which some line of Python was run before all others; return its pid."""
    processes = []

    def start(line):
        (tmp_path / "sitecustomize.py").write_text(line)
        with monkeypatch.context() as patched:
            patched.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
            processes.append(launch(Address.parse(address), ["--workers", "2", "--log-level", "ERROR"])[0])
        return processes[-1].pid

    yield start
    for process in processes:
        end(process)


@pytest.fixture(scope="module")
def standing():
    """One daemon with two workers for all tests of a file: it must live through each of them."""
    folder = Path(tempfile.mkdtemp(prefix="ls-", dir="/tmp"))
    address, log = f"ipc://{folder}/daemon", folder / "log"
    process, _ = launch(Address.parse(address), ["--workers", "2"], log=log)
    yield Standing(address, process.pid, log)
    end(process)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    shutil.rmtree(folder)
