"""A config file as its owner uses it: checked, served by name, and every mistake in it named."""

import json
import subprocess

import pytest

import loader_client
from loader_client import DatasetError
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


def test_the_same_declaration_is_the_same_dataset_by_name_or_not(config, start_daemon):
    from loader_service.daemon.__main__ import named_datasets
    from loader_service.dataset.dataset import Dataset

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
    ],
)
@pytest.mark.parametrize("name", ["check", "start"])
def test_a_mistake_in_the_file_is_named_with_what_was_meant(config, name, right, wrong, told):
    assert right in CONFIG
    config.write_text(CONFIG.replace(right, wrong))

    done = command(name, str(config))

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_that_is_not_there_is_named(tmp_path):
    done = command("start", str(tmp_path / "no.toml"), "--detach")

    assert done.returncode == 2
    assert "no.toml' cannot be read: No such file or directory" in done.stderr
