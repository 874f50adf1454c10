"""deploy/loader-service.service: what systemd would run, run; and what it would say of the file, if it is there."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import COMMAND, PATIENCE

UNIT = Path(__file__).parents[2] / "deploy" / "loader-service.service"


@pytest.fixture
def home(tmp_path):
    """A home with the command where the unit looks for it."""
    (tmp_path / ".local" / "bin").mkdir(parents=True)
    (tmp_path / ".local" / "bin" / "loader-service").symlink_to(COMMAND)
    return tmp_path


def test_the_unit_starts_the_daemon_that_clients_join_by_default(home, monkeypatch, address):
    runtime = Path(address.removeprefix("ipc://")).parent
    monkeypatch.delenv("LOADER_SERVICE_ADDRESS")
    line = re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)[1]
    for specifier, value in {"%h": home, "%t": runtime, "$OPTIONS": "--workers 1 --json"}.items():
        line = line.replace(specifier, str(value))

    process = subprocess.Popen(shlex.split(line), stdout=subprocess.PIPE, text=True)
    ready = json.loads(process.stdout.readline())
    status = subprocess.run([COMMAND, "status", "--json"], capture_output=True, text=True, timeout=PATIENCE)
    process.terminate()
    process.communicate(timeout=PATIENCE)

    assert json.loads(status.stdout)["pid"] == ready["pid"] == process.pid
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(home, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    ran = subprocess.run(
        ["systemd-analyze", "verify", "--user", UNIT], capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert UNIT.name not in ran.stderr
