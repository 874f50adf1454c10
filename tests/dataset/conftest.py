"""Pictures, arrays and user modules that the tests of this floor read."""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

PHOTOS = ["cats/a.png", "cats/b.png", "cats/c.jpg", "cats/deep/d.bmp", "dogs/e.webp", "dogs/f.png", "dogs/g.jpg"]
MODULES = itertools.count()


def write_picture(path, picture):
    """Write an RGB or grey picture in the format of the path's suffix."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)


def gradient(height, width, seed=0):
    """Return an RGB picture whose channels differ at every place, and that survives JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 200 / width + seed, y * 200 / height, np.full((height, width), 20 * (seed % 10) + 10)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Two classes of pictures of several sizes and formats: cats (4) and dogs (3)."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(PHOTOS):
        write_picture(folder / name, gradient(20 + 3 * number, 30 - 2 * number, number))
    return folder


@pytest.fixture(scope="session")
def npy_folder(tmp_path_factory):
    """Ten files 0.npy .. 9.npy, float32 (3, 2), each full of numbers that tell which it is."""
    folder = tmp_path_factory.mktemp("npy")
    for number in range(10):
        np.save(folder / f"{number}.npy", np.arange(6, dtype=np.float32).reshape(3, 2) + 10 * number)
    return folder


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A function that writes a user's module into a folder on the path, and returns its name."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    path, names = list(sys.path), []

    def write(source, name=None):
        name = name or f"user_module_{next(MODULES)}"
        names.append(name)
        (folder / f"{name}.py").write_text(source)
        return name

    yield write
    sys.path[:] = path
    for name in names:
        sys.modules.pop(name, None)
