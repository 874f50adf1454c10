"""The demo, as a newcomer runs it; shorter."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loader_service.cli.demo import demo
from loader_service.protocol.errors import LoaderError

COMMAND = str(Path(sys.executable).with_name("loader-service"))


@pytest.fixture
def scratch(monkeypatch):
    """The demo's folder for temporary files, and a home that it must not write to."""
    folder = Path(tempfile.mkdtemp(prefix="ls-", dir="/tmp"))  # short: multiprocessing binds sockets in there
    for name, variable in (("tmp", "TMPDIR"), ("home", "HOME")):
        (folder / name).mkdir()
        monkeypatch.setenv(variable, str(folder / name))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_demo_trains_twice_draws_its_curves_and_leaves_nothing(scratch):
    ran = subprocess.run(
        [COMMAND, "demo", "--epochs", "2", "--json", "--output", scratch / "curves.png"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["pictures"], told["epochs"], told["workers"]) == (1797, 2, 2)
    assert (scratch / "curves.png").read_bytes().startswith(b"\x89PNG")
    for loader in ("loader_service", "keras"):
        result = told[loader]
        assert len(result["accuracies"]) == len(result["epoch_seconds"]) == 2
        assert result["accuracy"] == result["accuracies"][-1] > 0.6, loader
        assert result["images_per_second"] > 0
        assert 0 <= result["waiting_share"] < 1
    assert list((scratch / "tmp").iterdir()) == []
    assert list((scratch / "home").iterdir()) == []


@pytest.mark.slow
def test_the_demo_trains_with_a_daemon_that_runs_already(scratch, start_daemon):
    """As two containers do, which share the address and the pictures, and nothing else."""
    daemon = start_daemon("--workers", "1")

    told = json.loads(
        daemon.command("demo", "--epochs", "1", "--json", "--keep", scratch / "digits", "--output", scratch / "it.png")
    )

    assert told["workers"] == 1
    assert told["loader_service"]["accuracy"] > 0.3
    assert max(dataset["batches_made"] for dataset in daemon.status()["datasets"]) >= 1437 // 32


def test_without_a_daemon_at_the_address_the_demo_says_so_at_once(scratch, address):
    ran = subprocess.run(
        [COMMAND, "demo", "--address", address, "--output", scratch / "curves.png"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 3
    assert address in ran.stderr


def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_trained(scratch):
    ran = subprocess.run(
        [COMMAND, "demo", "--output", scratch / "nowhere" / "curves.png"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 1
    assert "there is no folder" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch):
    """The base install runs daemons and clients, and has no TensorFlow."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))

    with pytest.raises(LoaderError, match=r"needs scikit-learn: pip install 'loader-service\[demo\]'"):
        demo()
