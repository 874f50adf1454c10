"""A config file as its owner uses it: checked, served by name, and every mistake in it named."""

import json
import subprocess
from pathlib import Path

import pytest

import loader_client
from loader_client import ConfigError, DatasetError
from loader_service import Dataset
from loader_service.dataset.catalog import named_datasets
from tests.dataset.jpegs import jpeg
from tests.end_to_end.conftest import COMMAND, PATIENCE, digest

CONFIG = """
workers = 2
memory = "64 MiB"

[datasets.pets]
source = { kind = "image_folder", path = "pictures" }
transforms = [{ kind = "resize", height = 8, width = 8 }, { kind = "map", function = "beside:invert" }]
shuffle = { seed = 3 }
batch = { size = 16, remainder = "pad" }
"""


def command(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def config(pictures):
    """A config beside the pictures, and beside the module that it names."""
    folder = pictures.parent
    (folder / "beside.py").write_text(
        "def invert(sample):\n    return {'image': 255 - sample['image'], 'label': sample['label']}\n"
    )
    (folder / "service.toml").write_text(CONFIG)
    return folder / "service.toml"


def test_a_dataset_is_served_by_its_name_with_the_files_settings(config, start_daemon):
    daemon = start_daemon(str(config))
    with loader_client.connect(daemon.address) as loader:
        stream = loader.stream("pets")
        batches = list(stream)
        status = daemon.status()

    assert [len(batch.ids) for batch in batches] == [16] * 5
    assert status["named_datasets"] == ["pets"]
    assert (len(status["workers"]), status["memory"]["limit"]) == (2, 64 * 2**20)


def test_all_paths_of_a_source_are_relative_to_the_file(tmp_path):
    ragged = '{ values = "v.npy", row_splits = "deep/s.npy" }'
    (tmp_path / "service.toml").write_text(
        f'[datasets.a]\nbatch = {{ size = 2 }}\nsource = {{ kind = "arrays", fields = {{ x = "x", y = {ragged} }} }}'
    )

    fields = Dataset(named_datasets(tmp_path / "service.toml")["a"]).to_dict()["source"]["fields"]

    assert fields == {
        "x": f"{tmp_path}/x",
        "y": {"values": f"{tmp_path}/v.npy", "row_splits": f"{tmp_path}/deep/s.npy"},
    }


def test_the_same_declaration_is_the_same_dataset_by_name_or_not(config, start_daemon):
    dataset = Dataset(named_datasets(config)["pets"])
    daemon = start_daemon(str(config), "--workers", "1")
    with loader_client.connect(daemon.address) as loader:
        assert loader.stream("pets").key == loader.stream(dataset).key == dataset.key
        assert digest(list(loader.stream("pets"))) == digest(dataset.compute(n) for n in range(5))
        assert len(daemon.worker_pids()) == 1


def test_a_name_that_is_not_served_is_told_with_those_that_are(config, start_daemon):
    daemon = start_daemon(str(config))
    with loader_client.connect(daemon.address) as loader:
        with pytest.raises(DatasetError, match="no dataset named 'pet': did you mean 'pets'"):
            loader.stream("pet")
        with pytest.raises(DatasetError, match="no dataset named 'x': there are 'pets'"):
            loader.stream("x")


def test_check_makes_one_row_of_each_dataset_and_starts_nothing(config):
    done = command("check", str(config), "--json")

    told = json.loads(done.stdout)["pets"]
    assert done.returncode == 0, done.stderr
    assert (told["samples"], told["batches_per_epoch"]) == (74, 5)
    assert told["summary"] == "image: uint8 (8, 8, 3), label: int64 (), weight: float32 ()"


@pytest.mark.slow
def test_check_all_reads_sequences_and_live_sources_too(tmp_path):
    (tmp_path / "service.toml").write_text(
        """
        [datasets.sequence]
        source = { kind = "keras", attr = "read:Sequence" }
        [datasets.live]
        source = { kind = "generator", function = "read:endless", samples = 4 }
        batch = { size = 2 }
        [datasets.broken]
        source = { kind = "generator", function = "read:broken", samples = 4 }
        batch = { size = 2 }
        """
    )
    (tmp_path / "read.py").write_text(
        """
import itertools
import numpy as np

class Sequence:
    def __len__(self):
        return 3
    def __getitem__(self, i):
        if i == 1:
            raise ValueError("batch 1 is rotten")
        return np.zeros((4, 2)), np.zeros(4)

def endless():
    return zip(itertools.count(), itertools.count())

def broken():
    yield 0, 0
    raise ValueError("the disk is gone")
"""
    )

    done = command("check", "--all", str(tmp_path / "service.toml"), "--json")

    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [bad["reason"] for bad in told["sequence"]["bad"]] == ["ValueError: batch 1 is rotten"]
    assert (told["live"]["samples"], told["live"]["bad"]) == (4, [])
    assert "the disk is gone" in told["broken"]["error"]


def test_check_of_every_row_finds_damage_below_the_part_that_a_crop_shows(tmp_path):
    """A crop decodes only what it shows: see docs/bad-samples.md."""
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    encoded = bytearray(jpeg("4:2:0", 203, 330))
    encoded[-400:-2] = bytes(398)
    for name, content in {"sound": jpeg("4:2:0", 203, 330), "damaged": bytes(encoded)}.items():
        (tmp_path / "pictures" / "a" / f"{name}.jpg").write_bytes(content)
    (tmp_path / "service.toml").write_text(
        """
        [datasets.tops]
        source = { kind = "image_folder", path = "pictures" }
        transforms = [{ kind = "center_crop", height = 8, width = 8 }]
        batch = { size = 2 }
        """
    )

    done = command("check", "--all", str(tmp_path / "service.toml"), "--json")

    assert [Path(bad["file"]).name for bad in json.loads(done.stdout)["tops"]["bad"]] == ["damaged.jpg"]


def test_check_fails_with_the_dataset_that_is_not_sound(config):
    config.write_text(CONFIG.replace('path = "pictures"', 'path = "nowhere"'))

    done = command("check", str(config), "--json")

    assert done.returncode == 1
    assert "nowhere' does not exist" in json.loads(done.stdout)["pets"]["error"]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("workers = 2", "workes = 2", "there is no key 'workes'; did you mean 'workers'?"),
        ("workers = 2", "workers = 0", 'workers is 0, expected a number from 1 to 4096, or "auto"'),
        ('"64 MiB"', '"64 apples"', "memory is '64 apples', expected a size of at least 1 MiB"),
        ("height = 8", "hight = 8", "transforms.0.resize: there is no key 'hight'; did you mean 'height'?"),
        ('"resize"', '"resise"', "transforms.0: there is no kind 'resise'; did you mean 'resize'?"),
        ('"image_folder"', '"folder"', "source: there is no kind 'folder'; did you mean 'image_folder'?"),
        ("seed = 3", "sed = 3", "datasets.pets: shuffle: there is no key 'sed'; did you mean 'seed'?"),
        ("size = 16", 'size = "many"', "datasets.pets: batch.size: input should be a valid integer"),
        ("shuffle =", "shuffel =", "datasets.pets: there is no key 'shuffel'; did you mean 'shuffle'?"),
        ("batch = {", "# {", "datasets.pets: batch is missing"),
        ("workers = 2", "workers = [", "is no TOML"),
        ("workers = 2", 'workers = "two"', "workers is 'two', expected a number from 1 to 4096, or \"auto\""),
        ("workers = 2", "workers = true", "workers is True, expected a number from 1 to 4096"),
        ('"64 MiB"', "5", 'memory is 5, expected a size of at least 1 MiB, as in "4 GiB"'),
        ("[datasets.pets]", "[datasets.cats]\n[datasets.pets]", "datasets.cats: 'source' is missing"),
        ('path = "pictures"', 'paht = "pictures"', "source.image_folder: there is no key 'paht'; did you mean 'path'?"),
        (', path = "pictures"', "", "source.image_folder: 'path' is missing"),
        ('kind = "image_folder", ', "", "source: 'kind' is missing; there are 'arrays', 'concat', 'files'"),
        ('path = "pictures"', "path = 7", "source.image_folder.path: input should be a valid string, got 7"),
        ('"image_folder", path', '"npy_files", ids = ["a"], path', "source.npy_files: ids cannot stand in a file"),
        ('{ kind = "image_folder", path = "pictures" }', '"pictures"', "source: expected a table, got 'pictures'"),
        ('kind = "resize", ', "", "transforms.0: 'kind' is missing; there are '"),
        (", width = 8", "", "transforms.0.resize: 'width' is missing"),
        ("width = 8", "width = 0", "transforms.0.resize.width: input should be greater than or equal to 1, got 0"),
        ('"beside:invert"', '"invert"', "transforms.1.map.function.name: expected an import path, as in"),
        ("transforms = [", "transforms = 3 # [", "transforms: expected a list, got 3"),
        ("size = 16", "sise = 16", "datasets.pets: batch: there is no key 'sise'; did you mean 'size'?"),
        ('"pad"', '"padd"', "datasets.pets: batch.remainder: input should be 'keep', 'drop' or 'pad', got 'padd'"),
        (
            "shuffle =",
            'on_eror = { policy = "replace" }\nshuffle =',
            "there is no key 'on_eror'; did you mean 'on_error'?",
        ),
        (
            "shuffle =",
            'on_error = { policy = "replace", mots = 0.1 }\nshuffle =',
            "datasets.pets: on_error: there is no key 'mots'; did you mean 'most'?",
        ),
        (
            "shuffle =",
            'on_error = { policy = "replac" }\nshuffle =',
            "datasets.pets: on_error.policy: input should be 'raise' or 'replace', got 'replac'",
        ),
        ("seed = 3", "seed = -3", "shuffle.seed: input should be greater than or equal to 0, got -3"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_what_was_meant(config, right, wrong, told):
    assert right in CONFIG
    config.write_text(CONFIG.replace(right, wrong))

    with pytest.raises(ConfigError) as caught:
        named_datasets(config)

    assert str(caught.value).startswith(f"config {str(config)!r}")
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["check", "start"])
def test_a_command_says_what_is_wrong_with_the_file_in_a_sentence(config, name):
    config.write_text(CONFIG.replace("height", "hight"))

    done = command(name, str(config))

    assert done.returncode == 2
    assert done.stderr.startswith(f"ConfigError: config {str(config)!r}: datasets.pets: transforms.0.resize: there is")
    assert "Traceback" not in done.stderr


def test_check_tells_of_every_dataset_though_users_code_raises_and_prints(config):
    """What a function prints must not get into the JSON; what it raises must not hide the other datasets."""
    (config.parent / "rude.py").write_text(
        "class Source:\n    def __len__(self):\n        print('hello')\n        return 1 // 0\n"
        "    def __getitem__(self, i):\n        return {}\n"
    )
    rude = '[datasets.rude]\nsource = { kind = "python", attr = "rude:Source" }\nbatch = { size = 1 }\n'
    config.write_text(f"{rude}{CONFIG.partition('MiB')[2].partition(chr(10))[2]}")

    plain, table = command("check", str(config), "--json"), command("check", str(config))

    told = json.loads(plain.stdout)
    assert (plain.returncode, table.returncode) == (1, 1)
    assert told["rude"]["error"] == "DatasetError: ZeroDivisionError: integer division or modulo by zero"
    assert "in __len__" in told["rude"]["notes"][0]
    assert told["pets"]["samples"] == 74
    assert "rude: DatasetError: ZeroDivisionError: integer division or modulo by zero\nTraceback" in table.stdout
    assert table.stdout.endswith("1 of 2 datasets are sound\n")


def test_a_config_that_is_not_there_is_named(tmp_path):
    done = command("start", str(tmp_path / "no.toml"), "--detach")

    assert done.returncode == 2
    assert "no.toml' cannot be read: No such file or directory" in done.stderr
