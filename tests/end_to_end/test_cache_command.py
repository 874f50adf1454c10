"""`loader-service cache`, as people type it."""

import json
import subprocess

import numpy as np
import pytest

from loader_service import Dataset
from loader_service.dataset.cache.folder import caches_folder
from tests.end_to_end.conftest import COMMAND, PATIENCE

pytestmark = pytest.mark.usefixtures("address")


def command(*arguments):
    return subprocess.run([COMMAND, "cache", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def kept():
    """A cache of twenty samples, whole; its folder."""
    rows = Dataset.from_arrays(x=np.arange(2000.0).reshape(20, 100)).rescale(0.5, field="x").cache().batch(20)
    rows.compute(0)
    (folder,) = caches_folder().iterdir()
    return folder


def test_list_tells_what_is_kept_of_what(kept):
    told = json.loads(command("list", "--json").stdout)

    assert list(told) == [kept.name]
    assert (told[kept.name]["samples"], told[kept.name]["of"], told[kept.name]["steps"]) == (20, 20, "rescale")
    assert "20 of 20" in command("list").stdout


def test_verify_takes_out_what_is_damaged(kept):
    assert command("verify").returncode == 0
    content = bytearray((kept / "data").read_bytes())
    content[500] ^= 1
    (kept / "data").write_bytes(content)

    done = command("verify", "--json")

    assert done.returncode == 1
    assert json.loads(done.stdout)[kept.name]["damaged"] == 1
    assert json.loads(command("list", "--json").stdout)[kept.name]["samples"] == 19
    assert command("verify").returncode == 0


@pytest.mark.slow
def test_clear_deletes_what_is_named_or_all_if_that_is_said(kept):
    assert command("clear").returncode == 2
    assert "is no folder" in command("list", "--path", __file__).stderr
    wrong = command("clear", kept.name[:-1])
    assert wrong.returncode == 2
    assert kept.name in wrong.stderr.replace("\n", "")
    assert kept.exists()

    assert json.loads(command("clear", kept.name, "--json").stdout) == {"cleared": [kept.name]}
    assert not kept.exists()
    assert "there are no caches" in command("list").stdout
