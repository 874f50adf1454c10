"""Windows and patches in a config; predictions of patches, put together. All else: test_every_kind.py."""

import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from loader_service.dataset.catalog import named_datasets

CONFIG = """
[datasets.windows]
source = { kind = "series", x = ["a.npy", "b.npy"], y = ["a.npy", "b.npy"], length = 12, offset = 12, stride = 3 }
shuffle = { seed = 5 }
batch = { size = 16 }

[datasets.cut]
source = { kind = "series", x = "a.npy", lengths = "lengths.npy", length = 12 }
batch = { size = 16 }

[datasets.grid]
source = { kind = "patches", fields = { x = "volume.npy", y = "mask.npy" }, size = [8, 8, 8], overlap = [2, 2, 4] }
batch = { size = 4 }

[datasets.anywhere]
source = { kind = "volumes", fields = { x = ["a.npy", "b.npy"] }, repeat = 20 }
transforms = [{ kind = "random_patch", size = [8, 2], field = ["x"] }, { kind = "rescale", scale = 0.5, field = "x" }]
shuffle = { seed = 5 }
batch = { size = 5 }
"""


@pytest.fixture
def folder(tmp_path):
    """Two recordings, a volume with its mask, and a config that names them by relative paths."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.random((300, 2), dtype=np.float32))
    np.save(tmp_path / "b.npy", rng.random((100, 2), dtype=np.float32))
    np.save(tmp_path / "lengths.npy", [120, 180])
    np.save(tmp_path / "volume.npy", rng.random((20, 30, 25), dtype=np.float32))
    np.save(tmp_path / "mask.npy", rng.integers(0, 2, (20, 30, 25), dtype=np.uint8))
    (tmp_path / "service.toml").write_text(CONFIG)
    return tmp_path


def dataset_of(folder, kind):
    x = [folder / "a.npy", folder / "b.npy"]
    return {
        "windows": lambda: Dataset.from_series(x, x, length=12, offset=12, stride=3).shuffle(5).batch(16),
        "cut": lambda: Dataset.from_series(x[0], lengths=folder / "lengths.npy", length=12).batch(16),
        "grid": lambda: Dataset.from_patches(
            folder / "volume.npy", y=folder / "mask.npy", size=(8, 8, 8), overlap=(2, 2, 4)
        ).batch(4),
        "anywhere": lambda: (
            Dataset.from_volumes(x, repeat=20)
            .random_patch((8, 2), field=["x"])
            .rescale(0.5, field="x")
            .shuffle(5)
            .batch(5)
        ),
    }[kind]()


KINDS = ["windows", "cut", "grid", "anywhere"]


def test_a_file_declares_what_python_does(folder):
    served = {name: Dataset(declaration) for name, declaration in named_datasets(folder / "service.toml").items()}

    assert {name: dataset.key for name, dataset in served.items()} == {
        kind: dataset_of(folder, kind).key for kind in KINDS
    }


def test_what_keras_predicts_for_patches_is_put_together(folder):
    """Multiplying by 3 needs no neighbours, so the whole prediction is known."""
    import keras

    volume = np.load(folder / "volume.npy")[..., None]
    model = keras.Sequential([keras.Input((8, 8, 8, 1)), keras.layers.Rescaling(3.0)])
    grid = Dataset.from_patches(volume, size=(8, 8, 8), overlap=3).batch(7)
    with loader_client.connect(workers=2) as loader:
        (predicted,) = grid.stitch(model.predict(loader.stream(grid).keras(), verbose=0))

    np.testing.assert_allclose(predicted, volume * 3, rtol=1e-6)
