"""The two programs of `make faults`, in small: every part of them is run."""

import json
import subprocess
import sys

import pytest

from tests.faults.trainer import ROOT

pytestmark = pytest.mark.slow


def run(program, *options):
    return subprocess.run(
        [sys.executable, "-m", program, *options], capture_output=True, text=True, timeout=110, cwd=ROOT
    )


def test_a_siege_of_some_seconds(tmp_path):
    kills = ["--worker-kills", "8", "--daemon-kills", "1", "--trainer-kills", "2", "--pauses", "3"]
    ran = run("tests.faults.long", "--seed", "3", *kills, "--no-keras", "--json", str(tmp_path / "result.json"))

    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["seed"] == 3
    assert result["faults"] == {"kill_a_worker": 8, "kill_the_daemon": 1, "kill_a_trainer": 2, "pause_somebody": 3}
    assert min(result["batches"].values()) > 50


def test_a_siege_stops_at_the_first_violation_with_a_sentence(monkeypatch, tmp_path):
    """Otherwise it could be that nobody looks. The trainers' arrays are tampered with."""
    patch = "import tests.faults.data as data\nright = data.hash_of\ndata.hash_of = lambda batch: right(batch)[::-1]\n"
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nif 'tests.faults.trainer' in sys.orig_argv:\n    sys.path.insert(0, {str(ROOT)!r})\n"
        + "".join(f"    {line}\n" for line in patch.splitlines())
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    ran = run("tests.faults.long", "--seed", "4", "--worker-kills", "1", "--trainers", "1", "--no-keras")

    assert ran.returncode == 1
    assert "violated, with seed 4: trainer 0 (noise) got other bytes for batch 0 than compute(0) makes" in ran.stderr


@pytest.mark.slow
def test_twenty_thousand_messages_that_nobody_should_send(tmp_path):
    ran = run("tests.faults.fuzz", "--messages", "20000", "--seed", "5", "--json", str(tmp_path / "result.json"))

    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["messages"] >= 20_000
    assert result["batches_beside"] > 20
    assert result["streams_left"] == 0
