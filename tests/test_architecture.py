"""The house of docs/architecture.md, held: a floor imports only the floors below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["protocol", "machine", "config", "dataset", "pool", "daemon", "cli"]  # ground floor first
HEAVY = {"tensorflow", "keras", "torch", "jax", "cv2", "simplejpeg", "uvloop", "typer", "rich", "psutil", "matplotlib"}


def files_of(floor):
    package = ROOT / "loader_service" / floor
    return sorted(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]


def imported_modules(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imported_floors(file):
    parts = (module.split(".") for module in imported_modules(file))
    return {names[1] for names in parts if names[0] == "loader_service" and len(names) > 1}


@pytest.mark.parametrize(("height", "floor"), list(enumerate(FLOORS)))
def test_a_floor_imports_only_the_floors_below(height, floor):
    for file in files_of(floor):
        assert imported_floors(file) <= set(FLOORS[: height + 1]), file


def test_the_client_imports_the_protocol_and_nothing_else_of_ours():
    for file in (ROOT / "client" / "loader_client").rglob("*.py"):
        assert imported_floors(file) <= {"protocol"}, file


@pytest.mark.parametrize("module", ["loader_client", "loader_service"])
def test_a_fresh_import_loads_nothing_heavy(module):
    """A training script must not pay for the daemon's libraries, nor a worker for the trainer's."""
    script = f"import {module}, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert not HEAVY & {name.partition(".")[0] for name in loaded.stdout.split()}


@pytest.mark.parametrize(
    "rules",
    ["daemon/streams.py", "pool/backlog.py", "pool/scheduler.py", "pool/roster.py", "dataset/statistics/tally.py"],
)
def test_rules_know_no_socket_no_clock_and_no_process(rules):
    file = ROOT / "loader_service" / rules

    assert not {"zmq", "socket", "os", "time", "subprocess", "asyncio", "signal"} & set(imported_modules(file))
