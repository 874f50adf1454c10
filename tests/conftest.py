"""What every test gets: an address of its own, and a look behind it for what it left."""

import gc
import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

from tests.leftovers import MARKER, Leftovers

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; those who are tested would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no deadline", deadline=None)  # a machine may be busy; pytest's own limit ends what hangs
settings.load_profile("no deadline")


def pytest_collection_finish():
    """Leave alone what imports have made: TensorFlow's objects are most of what a look behind a test goes through."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_left(monkeypatch):
    """Fail a test that leaves a process, a descriptor or a mapping behind."""
    monkeypatch.setenv(MARKER, uuid.uuid4().hex)
    before = Leftovers.now()
    yield
    before.fail_on_more()


@pytest.fixture
def address(monkeypatch):
    """An address that no daemon holds; it is the default one, too, for the length of the test."""
    folder = Path(tempfile.mkdtemp(prefix="ls-", dir="/tmp"))  # short: a socket's path has 107 bytes
    monkeypatch.setenv("LOADER_SERVICE_ADDRESS", f"ipc://{folder}/daemon")
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(folder))
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(folder / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(folder / "caches"))
    yield f"ipc://{folder}/daemon"
    shutil.rmtree(folder, ignore_errors=True)
