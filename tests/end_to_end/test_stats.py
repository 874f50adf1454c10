"""`loader-service stats` and `dataset.stats()` with real workers: the same numbers as in one process."""

import json
import subprocess

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset, Stats
from tests.end_to_end.conftest import COMMAND, PATIENCE

CONFIG = """
workers = 2
[datasets.pets]
source = { kind = "image_folder", path = "pictures" }
batch = { size = 16, remainder = "drop" }
[datasets.small]
source = { kind = "image_folder", path = "pictures" }
transforms = [{ kind = "resize", height = 4, width = 4 }, { kind = "normalize", stats = "stats.toml" }]
batch = { size = 16 }
"""
ONE = CONFIG.partition("[datasets.small]")[0]


def command(folder, *arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=folder)


@pytest.fixture
def folder(pictures):
    """A config of one dataset beside the pictures."""
    (pictures.parent / "service.toml").write_text(ONE)
    return pictures.parent


@pytest.mark.slow
def test_workers_find_what_one_process_finds_and_the_command_writes_it(folder):
    expected = Dataset.from_image_folder(folder / "pictures").stats(workers=0)

    done = command(folder, "stats", "service.toml", "-o", "stats.toml", "--json")

    assert done.returncode == 0, done.stderr
    found = Stats.load(folder / "stats.toml")
    assert found["image"].mean == pytest.approx(expected["image"].mean, rel=1e-12)
    assert found["image"].std == pytest.approx(expected["image"].std, rel=1e-12)
    assert found["image"].axes == expected["image"].axes
    told = json.loads(done.stdout)
    assert (told["dataset"], told["samples"]) == ("pets", 74)
    assert told["fields"]["label"]["classes"] == {"0": 37, "1": 37}
    assert told["fields"]["label"]["class_names"] == ["cat", "dog"]
    assert told["fields"]["image"]["mean"] == list(found["image"].mean)


@pytest.mark.slow
def test_a_file_that_was_written_is_what_a_config_normalizes_with(folder, start_daemon):
    assert command(folder, "stats", "service.toml", "pets", "-o", "stats.toml").returncode == 0
    (folder / "service.toml").write_text(CONFIG)
    daemon = start_daemon(str(folder / "service.toml"))

    with loader_client.connect(daemon.address) as loader:
        pixels = np.concatenate([batch["image"].reshape(-1, 3) for batch in loader.stream("small")])

    assert pixels.dtype == np.float32
    assert pixels.mean(axis=0) == pytest.approx([0, 0, 0], abs=0.1)


@pytest.mark.slow
def test_a_dataset_of_ones_own_module_is_named_by_its_import_path(folder):
    (folder / "mine.py").write_text(
        "import numpy as np\nfrom loader_service import Dataset\nprint('hello')\n"
        "def train():\n    return Dataset.from_arrays(x=np.arange(10.0), y=np.arange(10) % 2)\n"
        "nothing = 3\n"
    )

    done = command(folder, "stats", "mine:train", "--field", "x", "--workers", "1", "--json")

    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)["fields"]
    assert list(fields) == ["x"]
    assert (fields["x"]["mean"], fields["x"]["max"]) == (4.5, 9)
    wrong = command(folder, "stats", "mine:nothing")
    assert (wrong.returncode, "'mine:nothing' is int, expected a Dataset" in wrong.stderr) == (2, True)


@pytest.mark.slow
def test_a_table_is_shown(folder):
    done = command(folder, "stats", "service.toml")

    assert done.returncode == 0, done.stderr
    assert "74 samples" in done.stdout
    assert "label: 2 classes: cat 37, dog 37" in done.stdout
    assert "image: height: 24 to 28" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["service.toml", "pet"], 2, "there is no dataset 'pet'; did you mean 'pets'?"),
        (["service.toml", "pets", "--field", "imag"], 1, "there is no field 'imag'; did you mean 'image'?"),
        (["none.toml"], 2, "cannot be read"),
        (["mine:train"], 1, "there is no module 'mine'"),
        (["service.toml", "-o", "nowhere/stats.toml"], 2, "there is no folder"),
        (["service.toml", "--workers", "many"], 2, "expected a number from 1 to 4096"),
    ],
)
def test_what_was_called_wrongly_is_told_before_anything_is_counted(folder, arguments, code, told):
    done = command(folder, "stats", *arguments)

    assert done.returncode == code, done.stderr
    assert told in done.stderr


@pytest.mark.slow
def test_several_datasets_need_a_name(folder):
    assert command(folder, "stats", "service.toml", "-o", "stats.toml").returncode == 0
    (folder / "service.toml").write_text(CONFIG)

    done = command(folder, "stats", "service.toml")

    assert done.returncode == 2
    assert "it has several datasets, say which is meant: 'pets', 'small'" in done.stderr


@pytest.mark.slow
def test_balanced_class_weights_are_those_of_the_labels(tmp_path):
    """For an uneven dataset, each class then weighs the same in an epoch's loss."""
    label = np.repeat([0, 2], [9, 3])
    rows = Dataset.from_arrays(x=np.zeros((12, 1), np.float32), label=label)
    dataset = rows.batch(4)

    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(dataset)
        balanced = [w for _, _, w in stream.keras(class_weight="balanced").get_numpy_iterator()]
        counted = dataset.stats(workers=0).balanced("label")
        by_hand = [w for _, _, w in stream.keras(class_weight=counted).get_numpy_iterator()]
        other = loader.stream(rows.balanced("label").batch(4))
        with pytest.raises(DatasetError, match=r"cannot tell without making them all.*stats.balanced\('label'\)"):
            other.keras(class_weight="balanced")
        with pytest.raises(DatasetError, match=r"'stats.toml', expected \"balanced\".*Stats.load\('stats.toml'\)"):
            stream.keras(class_weight="stats.toml")

    weights = np.concatenate(balanced)
    assert weights[label == 0].sum() == pytest.approx(weights[label == 2].sum())
    assert weights.mean() == pytest.approx(1)
    assert np.array_equal(weights, np.concatenate(by_hand))
