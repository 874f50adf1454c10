"""`explain` and `preview` as their users call them: by a config, with every mistake in a sentence."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from loader_service import Dataset
from loader_service.cli import main
from loader_service.dataset.catalog import named_datasets
from tests.end_to_end.conftest import COMMAND, PATIENCE

CONFIG = """
[datasets.pets]
source = { kind = "image_folder", path = "pictures" }
transforms = [{ kind = "random_crop", height = 8, width = 8 }, { kind = "map", function = "loud:same" }]
shuffle = { seed = 3 }
batch = { size = 16 }

[datasets.numbers]
source = { kind = "arrays", fields = { x = "x.npy" } }
batch = { size = 2 }
"""


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "config"
    for number in range(20):
        picture = np.random.default_rng(number).integers(0, 255, (12, 14, 3), dtype=np.uint8)
        (folder / "pictures" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "pictures" / "ab"[number % 2] / f"{number}.png"), picture)
    (folder / "loud.py").write_text("def same(sample):\n    print('a user prints')\n    return sample\n")
    (folder / "service.toml").write_text(CONFIG)
    return folder / "service.toml"


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs a command in this process, and returns its exit status and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["loader-service", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
            sys.exit(0)
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_explain_tells_the_plan_of_a_named_dataset(config):
    ran = subprocess.run(
        [COMMAND, "explain", str(config), "pets"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )

    key = Dataset(named_datasets(config)["pets"]).key
    assert ran.stdout.startswith("dataset     pets\nsource      image_folder(")
    assert "random_crop(height=8, width=8)" in ran.stdout
    assert f"key         {key}" in ran.stdout


@pytest.mark.slow
def test_explain_prints_json_and_nothing_of_the_users(config, call):
    status, printed, _ = call("explain", config, "pets", "--json")

    told = json.loads(printed)
    assert (status, told["name"], told["pure"]["user_code"]) == (0, "pets", ["loud:same"])
    assert {name: told[name] for name in told if name != "name"} == Dataset(
        named_datasets(config)["pets"]
    ).explain().plain


@pytest.mark.slow
def test_preview_writes_the_picture_that_python_makes(config, tmp_path):
    output = tmp_path / "pets.png"
    ran = subprocess.run(
        [COMMAND, "preview", str(config), "pets", "--n", "3", "--epoch", "2", "--epochs", "2", "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    same = Dataset(named_datasets(config)["pets"]).preview(3, epoch=2, epochs=2)
    assert (cv2.imread(str(output))[..., ::-1] == same.picture).all()
    assert ran.stdout.startswith(f"{output}: pets: 3 of 20 samples, shuffled, seed 3, ")


@pytest.mark.slow
def test_preview_prints_what_it_shows_as_json(config, tmp_path, call):
    options = ("--n", 2, "--seed", 5, "--field", "image", "--json", "-o", tmp_path / "a.jpg")

    status, printed, _ = call("preview", config, "pets", *options)

    told = json.loads(printed)
    assert (status, told["output"], len(told["samples"])) == (0, str(tmp_path / "a.jpg"), 2)
    assert told["headings"] == ["original", "epoch 0", "epoch 1", "epoch 2", "epoch 3"]
    cell = told["samples"][0]["cells"][0][1]
    assert (cell["field"], cell["dtype"], cell["shape"]) == ("image", "uint8", [8, 8, 3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["explain"], 2, "it has several datasets, say which is meant: 'numbers', 'pets'"),
        (["explain", "pest"], 2, "there is no dataset 'pest'; did you mean 'pets'?"),
        (["explain", "numbers"], 1, "x.npy"),
        (["preview", "pets", "--n", "0"], 2, "--n"),
        (["preview", "pets", "-o", "nowhere/a.png"], 1, "there is no folder"),
        (["preview", "pets", "-o", "a.gif"], 1, "expected a name that ends in .png"),
        (["preview", "pets", "--field", "imaeg"], 1, "there is no field 'imaeg'; did you mean 'image'?"),
        (["preview", "numbers"], 1, "x.npy"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(config, call, monkeypatch, tmp_path, arguments, status, said):
    monkeypatch.chdir(tmp_path)

    command, *others = arguments
    ended, printed, told = call(command, config, *others)

    assert (ended, printed) == (status, "")
    assert said in " ".join(told.split())
    assert "Traceback" not in told
