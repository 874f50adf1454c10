import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

CLASSES = ("daisy", "fern", "iris", "ivy", "lily", "moss", "oak", "pine", "rose", "tulip")


@pytest.fixture
def readers_folder(tmp_path, monkeypatch):
    """What a reader of the docs has: an activated environment, photos in class folders, volumes, and scans."""
    tmp_path = tmp_path / "reader"
    tmp_path.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 13), ("validation", 4)):
        for number, label in enumerate(CLASSES):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for photo in range(count):
                picture = rng.integers(0, 60, (96 + photo, 128, 3), dtype=np.uint8) + np.uint8(19 * number)
                cv2.imwrite(str(folder / f"{photo:03}.jpg"), picture)
    (tmp_path / "volumes").mkdir()
    for number in range(40):
        np.save(tmp_path / "volumes" / f"id-{number:02}.npy", rng.random((16, 16, 16), dtype=np.float32))
    for folder in ("images", "masks", "labels"):
        (tmp_path / "scans" / folder).mkdir(parents=True)
    for number in range(12):
        picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"scans/images/image_{number:03}.png"), picture)
        cv2.imwrite(str(tmp_path / f"scans/masks/mask_{number:03}.png"), picture[..., 0] // 64)
        np.save(tmp_path / f"scans/labels/label_{number:03}.npy", rng.random(3, dtype=np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    return tmp_path
