"""One `.npy` file a sample: `folder/ID.npy`, and a label for each id. The best known Keras generator's case."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.sources.contents import Contents, FieldFiles
from loader_service.dataset.sources.npy_bodies import NpyBodies
from loader_service.dataset.sources.paths import Paths
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import PackedStrings, TableRef, pack_strings

NPY = b".npy"


class NpyFiles(Source):
    """Fields `x` and, where labels were given, `label`."""

    kind: Literal["npy_files"] = "npy_files"
    path: Annotated[str, Field(description="Folder of the files; relative to the config.")]  # absolute here
    ids: Annotated[dict[str, TableRef] | None, SkipJsonSchema()] = None  # packed strings; None: all files, sorted
    labels: Annotated[TableRef | None, SkipJsonSchema()] = None  # one row for each id

    def make_index(self, table: ReadTable) -> Index:
        """List the files, or look up those that `ids` name."""
        if self.ids is None:
            names = list_ids(self.path)
        else:
            _check_folder(self.path)
            packed = PackedStrings({name: table(ref) for name, ref in self.ids.items()})
            names = [os.fsdecode(packed[number]) for number in range(len(packed))]
            if not names:
                raise DatasetError("ids is empty: expected at least one file name; None takes all of the folder")
        sizes = np.empty(len(names), np.int64)
        for number, name in enumerate(names):
            try:
                sizes[number] = os.stat(f"{self.path}/{name}.npy").st_size  # noqa: PTH116 - a million times
            except FileNotFoundError:
                raise DatasetError(f"id {name!r} has no file {self.path}/{name}.npy") from None
        index: Index = {**as_sub_index("ids", pack_strings(names)), "sizes": sizes}
        if self.labels is not None:
            index["label"] = table(self.labels)
            if len(index["label"]) != len(names):
                raise DatasetError(f"{len(names):,} ids and {len(index['label']):,} labels: expected one for each")
        return index

    def reader(self, index: Index, table: ReadTable) -> NpyFilesReader:
        """Open the folder."""
        return NpyFilesReader(self.path, index)

    def contents(self, index: Index) -> Contents:
        """Return the files and their labels."""
        files = Paths(self.path, PackedStrings(sub_index(index, "ids")), NPY)
        return Contents(
            {"x": FieldFiles(files, index["sizes"], "npy")}, {name: index[name] for name in ("label",) if name in index}
        )


def list_ids(folder: str) -> list[str]:
    """Return the names of all `.npy` files of a folder, without the suffix, sorted.

    Raises:
        DatasetError: If there is no folder, or nothing in it.
    """
    _check_folder(folder)
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name[:-4] for entry in entries if entry.name.endswith(".npy") and not entry.name.startswith(".")
        )
    if not names:
        raise DatasetError(f"folder {folder!r} holds no .npy files")
    return names


def _check_folder(folder: str) -> None:
    path = Path(folder)
    if not path.is_dir():
        raise DatasetError(f"{folder!r} is no folder" if path.exists() else f"folder {folder!r} does not exist")


class NpyFilesReader:
    """Reads arrays, and their labels."""

    def __init__(self, folder: str, index: Index) -> None:
        self._bodies = NpyBodies(Paths(folder, PackedStrings(sub_index(index, "ids")), NPY))
        self._labels = index.get("label")
        self.columns = frozenset({"x"} if self._labels is None else {"x", "label"})

    def __len__(self) -> int:
        return len(self._bodies.path_of)

    def describe(self, sample_id: int) -> str:
        """Return the path of a sample's file."""
        return os.fsdecode(self._bodies.path_of(sample_id))

    def model(self, sample_id: int) -> Spec:
        """Parse the header of its file."""
        spec = {"x": self._bodies.model(sample_id)}
        if self._labels is not None:
            spec["label"] = FieldSpec.like(self._labels.shape[1:], self._labels.dtype)
        return spec

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return the array, and its label."""
        sample: dict[str, Any] = {}
        if "x" in fields:
            sample["x"] = self._bodies.read(sample_id)
        if "label" in fields and self._labels is not None:
            sample["label"] = self._labels[sample_id]
        return sample

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Read many arrays, or labels."""
        if field == "label":
            assert self._labels is not None, "only a declared field is read"
            np.take(self._labels, ids, axis=0, out=out)
            return
        self._bodies.read_column(ids, out, self._bodies.read_into, self.describe)
