"""Which source a folder is, where nobody says so."""

from __future__ import annotations

import os
from pathlib import Path

from loader_service.dataset.dataset import Dataset
from loader_service.dataset.sources.image_folder import SUFFIXES
from loader_service.protocol.errors import DatasetError

NPY = ".npy"


def source_of(folder: Path) -> Dataset:
    """Return the dataset of a folder: class folders with pictures, pictures, or `.npy` files.

    Raises:
        DatasetError: If it is none of these, or more than one.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DatasetError(f"{str(folder)!r} {what}: expected a folder of files to pack, or a TOML file with datasets")
    inside = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    names = [entry.name.lower() for entry in inside if entry.is_file()]
    found = {
        "class folders with pictures": any(entry.is_dir() and _holds_picture(entry.path) for entry in inside),
        "pictures": any(name.endswith(SUFFIXES) for name in names),
        f"{NPY} files": any(name.endswith(NPY) for name in names),
    }
    kinds = [kind for kind, is_there in found.items() if is_there]
    if len(kinds) != 1:
        what = " and ".join(kinds) if kinds else "none of these"
        raise DatasetError(
            f"folder {str(folder)!r} holds {what}, expected one of: {', '.join(found)}. "
            "What else belongs together is said in a TOML file, with a source of kind table, files or paired_files"
        )
    if found["pictures"]:
        return Dataset.from_files(folder)
    return Dataset.from_npy_files(folder) if found[f"{NPY} files"] else Dataset.from_image_folder(folder)


def _holds_picture(folder: str) -> bool:
    return any(name.lower().endswith(SUFFIXES) for _, _, names in os.walk(folder) for name in names)
