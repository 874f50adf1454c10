"""`loader-service pack` as its user meets it: what it says, what it leaves, and its exit status."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import loader_client
from loader_service import Dataset
from loader_service.cli import app
from loader_service.protocol.errors import ConfigError, DatasetError
from tests.end_to_end.conftest import COMMAND, PATIENCE, digest


def command(*arguments):
    return subprocess.run([COMMAND, "pack", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE)


def run(*arguments):
    """Run the command in this process."""
    ran = CliRunner().invoke(app(), ["pack", *map(str, arguments)], catch_exceptions=True)
    if isinstance(ran.exception, Exception):
        raise ran.exception
    return ran


@pytest.fixture
def arrays(tmp_path):
    """Twenty arrays in a folder."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    for number in range(20):
        np.save(folder / f"{number:02}.npy", np.full((8, 4), number, np.float32))
    return folder


def test_a_folder_of_pictures_becomes_a_pack_that_workers_read(pictures, tmp_path):
    ran = command(pictures, "-o", tmp_path / "pets.pack")
    told = json.loads(run("--info", tmp_path / "pets.pack", "--json").stdout)
    folder, packed = (
        dataset.resize(8, 8).random_flip().shuffle(seed=3).batch(16)
        for dataset in (Dataset.from_image_folder(pictures), Dataset.from_pack(tmp_path / "pets.pack"))
    )
    with loader_client.connect(workers=2) as loader, loader.stream(packed) as stream:
        streamed = digest(stream)

    assert ran.returncode == 0
    assert f"{told['samples']:,} samples" in ran.stdout
    assert told["source"] == {"kind": "image_folder", "path": str(pictures), "color": "rgb"}
    assert told["class_names"] == folder.class_names
    assert streamed == digest(folder.compute(n) for n in range(folder.batches_per_epoch))


@pytest.mark.slow
def test_what_was_done_is_told_to_machines(arrays, tmp_path):
    told = json.loads(run(arrays, "-o", tmp_path / "a.pack", "--json").stdout)

    assert told["samples"] == told["files"] == 20
    assert told["bytes"] == (tmp_path / "a.pack").stat().st_size
    assert told["read"] == sum(path.stat().st_size for path in arrays.iterdir())
    assert told["resumed"] == 0
    assert told["seconds"] > 0
    assert told["fields"] == {"x": "float32 (8, 4), one array"}


@pytest.mark.slow
def test_the_source_of_a_configs_dataset_is_packed_and_a_config_names_packs(arrays, tmp_path):
    lines = [f"arrays/{number:02}.npy,{'odd' if number % 2 else 'even'}" for number in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["path,kind", *lines]))
    (tmp_path / "service.toml").write_text(
        """
        [datasets.numbers]
        source = { kind = "table", path = "table.csv", labels = "kind" }
        batch = { size = 4 }

        [datasets.packed]
        source = { kind = "pack", path = "numbers.pack" }
        batch = { size = 4 }
        """
    )

    run(tmp_path / "service.toml", "numbers", "-o", tmp_path / "numbers.pack")
    found = CliRunner().invoke(app(), ["check", str(tmp_path / "service.toml"), "--json"])

    told = json.loads(found.stdout)
    assert told["packed"]["summary"] == told["numbers"]["summary"]
    assert Dataset.from_pack(tmp_path / "numbers.pack").batch(4).class_names == ["even", "odd"]


@pytest.mark.slow
def test_verify_names_what_is_damaged_and_fails(arrays, tmp_path):
    run(arrays, "-o", tmp_path / "a.pack")
    sound = run("--verify", tmp_path / "a.pack")
    content = bytearray((tmp_path / "a.pack").read_bytes())
    content[4096 + 5 * 128] ^= 1  # the sixth array
    (tmp_path / "a.pack").write_bytes(content)

    damaged = command("--verify", tmp_path / "a.pack")
    told = json.loads(run("--verify", tmp_path / "a.pack", "--json").stdout)

    assert (sound.exit_code, damaged.returncode) == (0, 1)
    assert "sound: read in" in sound.stdout
    assert f"sample 5 ({arrays}/05.npy), x: its 128 bytes are damaged" in damaged.stdout
    assert [(bad["sample"], bad["field"]) for bad in told["damaged"]] == [(5, "x")]


SLOW = """
import os, signal, sys
from loader_service.dataset.packing import part, writer
from loader_service.cli import main
writer.CHUNK_FILES, part.CHECKPOINT_BYTES = 1, 1
append, left, how = part.Journal.append, 3, getattr(signal, sys.argv.pop(1))
def dying(*arguments):
    global left
    append(*arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), how)
part.Journal.append = dying
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_the_same_command_goes_on_where_it_was_interrupted(arrays, tmp_path, how, status):
    ran = subprocess.run(
        [sys.executable, "-c", SLOW, how, "pack", str(arrays), "-o", str(tmp_path / "a.pack")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=PATIENCE,
        env=os.environ,
    )
    there = sorted(path.name for path in tmp_path.glob("a.pack*"))
    again = run(arrays, "-o", tmp_path / "a.pack")
    run(arrays, "-o", tmp_path / "fresh.pack")

    assert ran.returncode == status
    assert ("the same command goes on" in ran.stderr) == (how == "SIGINT")
    assert there == ["a.pack.part", "a.pack.part.journal"]
    assert "3 of them before" in again.stdout
    assert (tmp_path / "a.pack").read_bytes() == (tmp_path / "fresh.pack").read_bytes()


@pytest.mark.slow
def test_a_wrong_command_is_told_apart_from_a_pack_that_cannot_be_made(arrays, tmp_path):
    without_output = command(arrays)
    run(arrays, "-o", tmp_path / "a.pack")

    assert without_output.returncode == 2
    assert "ConfigError: where does the pack go? Add -o FILE" in without_output.stderr
    with pytest.raises(DatasetError, match=r"a\.pack' exists: --force replaces it"):
        run(arrays, "-o", tmp_path / "a.pack")
    assert run(arrays, "-o", tmp_path / "a.pack", "--force").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (["nowhere"], DatasetError, "'nowhere' does not exist"),
        (["empty"], DatasetError, "holds none of these, expected one of: class folders with pictures, pictures, .npy"),
        (["arrays", "pets"], ConfigError, "'pets' would be a dataset of a TOML file"),
        (["service.toml"], ConfigError, "it has several datasets, say which is meant: 'mine', 'pets'"),
        (["service.toml", "pest"], ConfigError, "there is no dataset 'pest'; did you mean 'pets'"),
        (["service.toml", "mine"], DatasetError, "python: such a source is not packed: its samples are made by your"),
        (["--info", "arrays"], ConfigError, "--verify and --info look at a pack, and make none"),
        (["both"], DatasetError, "holds class folders with pictures and .npy files, expected one of"),
    ],
)
def test_what_cannot_be_packed_is_told_in_a_sentence(arrays, pictures, tmp_path, monkeypatch, arguments, error, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "both").mkdir()
    (tmp_path / "both/pictures").symlink_to(pictures)
    (tmp_path / "both/x.npy").write_bytes((arrays / "00.npy").read_bytes())
    (tmp_path / "service.toml").write_text(
        """
        [datasets]
        pets = { source = { kind = "npy_files", path = "arrays" }, batch = { size = 4 } }
        mine = { source = { kind = "python", attr = "tests.end_to_end.kinds:Pairs" }, batch = { size = 4 } }
        """
    )
    monkeypatch.chdir(tmp_path)

    with pytest.raises(error, match=told):
        run(*arguments, "-o", "some.pack")

    assert not list(tmp_path.glob("some.pack*"))
