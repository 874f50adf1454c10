"""Pictures in class sub-folders: `flowers/roses/17.jpg` has the label of "roses"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from loader_service.dataset.sources.contents import Contents, FieldFiles
from loader_service.dataset.sources.decoding import (
    Color,
    ShrinkOnLoad,
    decode_image,
    left_encoded,
)
from loader_service.dataset.sources.paths import read_file
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError, nearest
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import PackedStrings, pack_strings

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")


class ImageFolder(Source):
    """Sub-folders are classes, in the order of their names; pictures lie in them, at any depth."""

    kind: Literal["image_folder"] = "image_folder"
    path: Annotated[str, Field(description="Folder of the class sub-folders; relative to the config.")]  # absolute here
    color: Color = "rgb"
    shrink_on_load: ShrinkOnLoad = None
    classes: Annotated[
        tuple[str, ...] | None,
        Field(min_length=1, description="Sub-folders in the order of their numbers; all, sorted, if nothing is said."),
    ] = None

    @field_validator("classes")
    @classmethod
    def _each_once(cls, named: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = [name for name in named or () if (named or ()).count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is there twice: each class has one number")
        return named

    def make_index(self, table: ReadTable) -> Index:
        """List all pictures, sorted by class and path."""
        classes = self._classes()
        paths: list[str] = []
        sizes: list[int] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            for path, size in sorted(_pictures(os.path.join(self.path, name))):  # noqa: PTH118 - a million times
                paths.append(os.path.relpath(path, self.path))
                sizes.append(size)
                labels.append(label)
        if not paths:
            raise DatasetError(
                f"folder {self.path!r} holds no pictures in its class sub-folders ({', '.join(classes)}); "
                f"files ending in {', '.join(SUFFIXES)} are read"
            )
        return {
            **as_sub_index("paths", pack_strings(paths)),
            **as_sub_index("classes", pack_strings(classes)),
            "sizes": np.asarray(sizes, np.int64),
            "label": np.asarray(labels, np.int64),
        }

    def _classes(self) -> list[str]:
        root = Path(self.path)
        if not root.is_dir():
            raise DatasetError(
                f"folder {self.path!r} does not exist" if not root.exists() else f"{self.path!r} is no folder"
            )
        classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not classes:
            what = "is empty" if not any(root.iterdir()) else "has no sub-folders"
            raise DatasetError(f"folder {self.path!r} {what}: expected a sub-folder of pictures for each class")
        for name in self.classes or ():
            if name not in classes:
                raise DatasetError(
                    f"folder {self.path!r} has no sub-folder {name!r}, which is named in classes; "
                    f"{nearest(name, classes)}"
                )
        return list(self.classes or classes)

    def reader(self, index: Index, table: ReadTable) -> ImageFolderReader:
        """Open the folder."""
        return ImageFolderReader(self, index)

    def class_names(self, index: Index) -> list[str]:
        """Return the names of the sub-folders."""
        names = PackedStrings(sub_index(index, "classes"))
        return [names[number].decode(errors="replace") for number in range(len(names))]

    def contents(self, index: Index) -> Contents:
        """Return the pictures and their labels."""
        root, paths = os.fsencode(self.path) + b"/", PackedStrings(sub_index(index, "paths"))
        pictures = FieldFiles(lambda sample_id: root + paths[sample_id], index["sizes"], self.color)
        return Contents({"image": pictures}, {"label": index["label"]})


def _pictures(folder: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _pictures(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry.path, entry.stat().st_size


class ImageFolderReader:
    """Decodes pictures: JPEG with libjpeg-turbo, all else with OpenCV; as stored, Exif orientation not applied."""

    columns, pictures = frozenset({"label"}), frozenset({"image"})

    def __init__(self, source: ImageFolder, index: Index) -> None:
        self._root = os.fsencode(source.path) + b"/"
        self._color, self.shrinks = source.color, bool(source.shrink_on_load)
        self._paths = PackedStrings(sub_index(index, "paths"))
        self._labels = index["label"]

    def __len__(self) -> int:
        return len(self._paths)

    def model(self, sample_id: int) -> Spec:
        """Decode the picture."""
        picture = self.read(sample_id, frozenset({"image"}))["image"]
        return {"image": FieldSpec.of(picture), "label": FieldSpec((), "int64")}

    def read(self, sample_id: int, fields: frozenset[str], encoded: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the picture, uint8 (height, width, channels), and its label; as in its file, where that is wanted."""
        sample: dict[str, Any] = {}
        if "image" in fields:
            content = read_file(self._root + self._paths[sample_id])
            if "image" in encoded:
                sample["image"] = left_encoded(content, self._color, shrinks=self.shrinks)
            else:
                sample["image"] = decode_image(content, self._color)
        if "label" in fields:
            sample["label"] = self._labels[sample_id]
        return sample

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Read labels."""
        np.take(self._labels, ids, out=out)

    def describe(self, sample_id: int) -> str:
        """Return the picture's path."""
        return os.fsdecode(self._root + self._paths[sample_id])
