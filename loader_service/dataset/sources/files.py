"""Files that are listed, and labels that stand beside them: one file a sample, or one for each of several fields.

    index    paths.FIELD    packed strings, relative to the source's root, or absolute
             sizes.FIELD    bytes of each file
             column.FIELD   labels: one row for each sample
             classes.FIELD  packed strings: what class numbers mean

Three declarations end in this index: `files` here, a table (table.py), and patterns (paired_files.py).
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.sources.contents import Contents, Decoding, FieldFiles
from loader_service.dataset.sources.decoding import (
    Color,
    EncodedJpeg,
    ShrinkOnLoad,
    decode_image,
    left_encoded,
)
from loader_service.dataset.sources.image_folder import SUFFIXES
from loader_service.dataset.sources.labels import LABEL, Column, label_columns
from loader_service.dataset.sources.mask import decode_mask
from loader_service.dataset.sources.npy_bodies import NpyBodies
from loader_service.dataset.sources.paths import Paths, read_file
from loader_service.dataset.sources.source import Index, ReadTable, Source, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec
from loader_service.protocol.tables import PackedStrings, TableRef, pack_strings

NPY = ".npy"
PathLike = str | os.PathLike[str]
Packed = dict[str, TableRef]  # packed strings
Keep = Callable[[np.ndarray], TableRef]  # remembers an array that a declaration names
Colors = Annotated[Color, Field(description="Of pictures: three channels, one, or four with alpha.")]
Masks = Annotated[
    tuple[str, ...], Field(description="Fields whose pictures hold a number in each pixel, not a colour.")
]


class FilesSource(Source):
    """What all sources have in common whose samples are files that are listed."""

    color: Colors = "rgb"
    shrink_on_load: ShrinkOnLoad = None
    masks: Masks = ("mask",)

    @property
    def folder(self) -> str:
        """What relative paths of the index are relative to."""
        return "/"

    def reader(self, index: Index, table: ReadTable) -> FilesReader:
        """Open the files' index."""
        return FilesReader(self.folder, index, color=self.color, masks=self.masks, shrinks=bool(self.shrink_on_load))

    def class_names(self, index: Index) -> list[str]:
        """Return the names of the classes of the labels; of a field by another name, where it alone has classes."""
        fields = _fields(index, "classes")
        if LABEL not in fields and len(fields) != 1:
            return []
        names = PackedStrings(sub_index(index, f"classes.{LABEL if LABEL in fields else fields[0]}"))
        return [names[number].decode(errors="replace") for number in range(len(names))]

    def contents(self, index: Index) -> Contents:
        """Return the files of each field, and the labels."""
        files = {}
        for field in _fields(index, "paths"):
            path_of = _paths_of(self.folder, index, field)
            decoding: Decoding = "mask" if field in self.masks else self.color
            files[field] = FieldFiles(path_of, index[f"sizes.{field}"], "npy" if _are_npy(path_of) else decoding)
        return Contents(files, _labels(index))


class Files(FilesSource):
    """A list of files with their labels; or all files of a folder, or that match a pattern, without."""

    kind: Literal["files"] = "files"
    path: Annotated[
        str | None, Field(description="Folder, or a pattern as in photos/*.jpg; relative to the config.")
    ] = None
    root: Annotated[str | None, SkipJsonSchema()] = None  # absolute; of the paths in memory
    paths: Annotated[dict[str, Packed] | None, SkipJsonSchema()] = None  # field -> a path for each sample
    labels: Annotated[dict[str, TableRef] | None, SkipJsonSchema()] = None  # field -> one row for each sample
    classes: Annotated[dict[str, Packed] | None, SkipJsonSchema()] = None  # field -> names

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if self.path is None and self.paths is None:
            raise ValueError("'path' is missing: a folder, or a pattern as in photos/*.jpg")
        return self

    @property
    def folder(self) -> str:
        """The root of a list; a folder itself."""
        return self.root or self.path or "/"

    def make_index(self, table: ReadTable) -> Index:
        """List the folder, or look up what is listed."""
        if self.paths is None:
            assert self.path is not None, "checked when it was declared"
            listed = list_files(self.path)
            check_paths({"paths": listed})
            return index_files(self.folder, {field_of(listed[0]): listed}, {})
        paths = {field: _unpacked(packed, table) for field, packed in self.paths.items()}
        classes = {field: tuple(_unpacked(packed, table)) for field, packed in (self.classes or {}).items()}
        columns = {field: Column(table(ref), classes.get(field, ())) for field, ref in (self.labels or {}).items()}
        return index_files(self.folder, paths, columns)


def declare_files(
    paths: PathLike | Iterable[PathLike] | Mapping[str, Iterable[PathLike]],
    labels: Any,
    root: PathLike | None,
    classes: Sequence[str] | None,
    keep: Keep,
) -> dict[str, Any]:
    """Return the options of `Files`; lists of paths and labels are kept as tables.

    Raises:
        DatasetError: Names the path or the label that is wrong.
    """
    if isinstance(paths, str | os.PathLike):
        for name, given in {"labels": labels, "root": root, "classes": classes}.items():
            if given is not None:
                raise DatasetError(
                    f"from_files: {name}= belongs to a list of paths, and {os.fspath(paths)!r} is a folder, or a "
                    "pattern: list its files, in the order of the labels"
                )
        return {"path": str(Path(paths).expanduser().absolute())}
    named = dict(paths) if isinstance(paths, Mapping) else {"paths": paths}
    listed = {field: _texts(field, given) for field, given in named.items()}
    check_paths(listed)
    if not isinstance(paths, Mapping):
        listed = {field_of(listed["paths"][0]): listed["paths"]}
    columns = label_columns(labels, next(iter(listed.values())), classes)
    return {"root": absolute_root(root), **kept_columns(listed, columns, keep)}


def kept_columns(listed: Mapping[str, list[str]], columns: Mapping[str, Column], keep: Keep) -> dict[str, Any]:
    """Return paths and labels as a declaration holds them: tables, each by its hash."""

    def packed(strings: Sequence[str]) -> Packed:
        return {name: keep(array) for name, array in pack_strings(list(strings)).items()}

    clash = sorted(listed.keys() & columns.keys())
    if clash:
        raise DatasetError(f"the field {clash[0]!r} is among the files and among the labels: rename one of them")
    return {
        "paths": {field: packed(paths) for field, paths in listed.items()},
        "labels": {field: keep(column.values) for field, column in columns.items()} or None,
        "classes": {field: packed(column.classes) for field, column in columns.items() if column.classes} or None,
    }


def absolute_root(root: PathLike | None) -> str:
    """Return the folder that relative paths are relative to: the current one, where none is said."""
    return str(Path(root or ".").expanduser().absolute())


def _texts(field: str, paths: Iterable[PathLike]) -> list[str]:
    paths = list(paths)
    if not all(issubclass(kind, str) for kind in set(map(type, paths))):
        for number, path in enumerate(paths):
            if not isinstance(path, str | os.PathLike):
                raise DatasetError(f"{field}[{number}] is {path!r}, expected the path of a file")
    return [os.fspath(path) for path in paths]


# -- listing ------------------------------------------------------------------------------------------------------


def list_files(path: str) -> list[str]:
    """Return the pictures or `.npy` files of a folder, by name, or those that match a pattern, as whole paths; sorted.

    Raises:
        DatasetError: If there is none.
    """
    if Path(path).is_dir():
        with os.scandir(path) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower().endswith((*SUFFIXES, NPY)) and entry.is_file()
            )
        if not names:
            raise DatasetError(
                f"folder {path!r} holds no files ending in {', '.join((*SUFFIXES, NPY))}; for those of its "
                f'sub-folders, give a pattern: "{path}/**/*.jpg"'
            )
        return names
    if not glob.has_magic(path):
        what = "is one file" if Path(path).exists() else "does not exist"
        raise DatasetError(f"{path!r} {what}: expected a folder, a pattern, or a list of paths")
    found = sorted(name for name in glob.iglob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207 - as text
    if not found:
        raise DatasetError(f"no file matches {path!r}")
    return found


def check_paths(listed: Mapping[str, Sequence[str]]) -> None:
    """Refuse what cannot be a list of files: an empty one, unequal ones, files of two kinds, the same one twice."""
    lengths = {field: len(paths) for field, paths in listed.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field}: {length:,}" for field, length in lengths.items())
        raise DatasetError(f"lists of files of different lengths ({told}): expected one file for each sample in all")
    if not any(lengths.values()):
        raise DatasetError("the list of files is empty: expected at least one path")
    for field, paths in listed.items():
        _check_kinds(field, paths)
    paths, *others = listed.values()
    rows: Sequence[Any] = list(zip(paths, *others, strict=True)) if others else paths
    if len(set(rows)) < len(rows):
        row, count = next((row, count) for row, count in Counter(rows).items() if count > 1)
        first = rows.index(row)
        raise DatasetError(
            f"{paths[first]!r} is listed {count:,} times, in rows {first:,} and {rows.index(row, first + 1):,}: "
            "a file is one sample; leave the others out, or put their labels together"
        )


def _check_kinds(field: str, paths: Sequence[str]) -> None:
    of_npy = sum(path.lower().endswith(NPY) for path in paths)
    strange = None
    if of_npy < len(paths):
        strange = next((path for path in paths if not path.lower().endswith((*SUFFIXES, NPY))), None)
    if strange is not None:
        raise DatasetError(
            f"{strange!r} is no file that is read: expected names ending in {NPY}, or in {', '.join(SUFFIXES)}"
        )
    if 0 < of_npy < len(paths):
        picture = next(path for path in paths if not path.lower().endswith(NPY))
        raise DatasetError(
            f"{field}: {of_npy:,} {NPY} files and {len(paths) - of_npy:,} pictures ({picture!r}) in one list: a field "
            "is read from files of one kind"
        )


def field_of(path: str) -> str:
    """Return the field that a file is read into, where nobody has named one."""
    return "x" if path.lower().endswith(NPY) else "image"


# -- the index ----------------------------------------------------------------------------------------------------


def index_files(root: str, listed: Mapping[str, Sequence[str]], columns: Mapping[str, Column]) -> Index:
    """Return the index of files and labels.

    Raises:
        DatasetError: If files do not exist: says how many, and names the first.
    """
    index: Index = {}
    for field, paths in listed.items():
        index |= as_sub_index(f"paths.{field}", pack_strings(list(paths)))
        index[f"sizes.{field}"] = _sizes(root, paths)
    for field, column in columns.items():
        index[f"column.{field}"] = column.values
        if column.classes:
            index |= as_sub_index(f"classes.{field}", pack_strings(list(column.classes)))
    return index


def _sizes(root: str, paths: Sequence[str]) -> NDArray[np.int64]:
    sizes = np.empty(len(paths), np.int64)
    missing = []
    beneath = root.rstrip("/") + "/"
    for number, path in enumerate(paths):
        try:
            sizes[number] = os.stat(path if path.startswith("/") else beneath + path).st_size  # noqa: PTH116 - often
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
    if missing:
        where = "" if all(map(os.path.isabs, missing)) else f"; relative paths are looked for in {root!r}: see root="
        raise DatasetError(
            f"{len(missing):,} of {len(paths):,} files do not exist: {', '.join(map(repr, missing[:3]))}"
            f"{', ...' if len(missing) > 3 else ''}{where}"
        )
    return sizes


def _unpacked(packed: Packed, table: ReadTable) -> list[str]:
    strings = PackedStrings({name: table(ref) for name, ref in packed.items()})
    return [os.fsdecode(strings[number]) for number in range(len(strings))]


def _fields(index: Index, part: str) -> list[str]:
    """Return the fields that have packed strings in this part of the index."""
    found = (key for key in index if key.startswith(f"{part}.") and key.endswith(".offsets"))
    return [key.removeprefix(f"{part}.").removesuffix(".offsets") for key in found]


def _paths_of(root: str, index: Index, field: str) -> Paths:
    return Paths(root, PackedStrings(sub_index(index, f"paths.{field}")), any_root=True)


def _are_npy(files: Paths) -> bool:
    """Return whether the files hold arrays, not pictures: all are of one kind."""
    return files(0).lower().endswith(NPY.encode())


def _labels(index: Index) -> Index:
    """Return the column of each field of labels."""
    return sub_index(index, "column")


# -- reading ------------------------------------------------------------------------------------------------------


class _Pictures:
    """Decodes the pictures of one field."""

    def __init__(
        self, path_of: Paths, decode: Callable[[bytes], np.ndarray], leave: Callable[[bytes], np.ndarray | EncodedJpeg]
    ) -> None:
        self.path_of, self._decode, self._leave = path_of, decode, leave

    def model(self, sample_id: int) -> FieldSpec:
        """Decode the picture."""
        return FieldSpec.of(self.read(sample_id))

    def read(self, sample_id: int) -> np.ndarray:
        """Return a picture, (height, width, channels)."""
        return self._decode(read_file(self.path_of(sample_id)))

    def read_encoded(self, sample_id: int) -> np.ndarray | EncodedJpeg:
        """Return a picture that may still be as in its file."""
        return self._leave(read_file(self.path_of(sample_id)))


class FilesReader:
    """Decodes pictures, as image_folder does, reads `.npy` files, as npy_files does, and looks up labels."""

    def __init__(self, root: str, index: Index, *, color: Color, masks: Sequence[str], shrinks: bool) -> None:
        self._files: dict[str, _Pictures | NpyBodies] = {}
        self.shrinks = shrinks
        decode, leave = partial(decode_image, color=color), partial(left_encoded, color=color, shrinks=shrinks)
        for field in _fields(index, "paths"):
            path_of = _paths_of(root, index, field)
            if _are_npy(path_of):
                self._files[field] = NpyBodies(path_of)
            else:
                self._files[field] = _Pictures(path_of, decode_mask if field in masks else decode, leave)
            self._length = len(path_of)
        self._labels = _labels(index)
        self._named_by = next(iter(self._files))  # the field whose files samples are called by
        arrays = {field for field, files in self._files.items() if isinstance(files, NpyBodies)}
        self.columns = frozenset(arrays | self._labels.keys())
        self.pictures = frozenset(self._files.keys() - arrays - set(masks))

    def __len__(self) -> int:
        return self._length

    def describe(self, sample_id: int) -> str:
        """Return the path of a sample's file; of the first field's, where it has several."""
        return os.fsdecode(self._files[self._named_by].path_of(sample_id))

    def model(self, sample_id: int) -> Spec:
        """Decode its pictures, and parse the headers of its arrays."""
        specs = {field: self._naming(field, sample_id, files.model) for field, files in self._files.items()}
        labels = {field: FieldSpec.like(values.shape[1:], values.dtype) for field, values in self._labels.items()}
        return {**specs, **labels}

    def read(self, sample_id: int, fields: frozenset[str], encoded: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return pictures, arrays and labels of one sample; pictures as in their files, where that is wanted."""
        files = {}
        for field, files_of in self._files.items():
            if field in fields:
                read: Callable[[int], Any] = files_of.read
                if field in encoded and isinstance(files_of, _Pictures):
                    read = files_of.read_encoded
                files[field] = self._naming(field, sample_id, read)
        return {**files, **{field: values[sample_id] for field, values in self._labels.items() if field in fields}}

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Read many arrays, or labels."""
        if field in self._labels:
            np.take(self._labels[field], ids, axis=0, out=out, mode="clip")
            return
        files = self._files[field]
        assert isinstance(files, NpyBodies), "pictures are no column"

        def read(sample_id: int, row: np.ndarray) -> None:
            self._naming(field, sample_id, partial(files.read_into, out=row))

        files.read_column(ids, out, read, self.describe)

    def _naming(self, field: str, sample_id: int, read: Callable[[int], Any]) -> Any:
        """Read a file; what is wrong with it is told with its name, where the sample has another one."""
        try:
            return read(sample_id)
        except DatasetError as error:
            if field == self._named_by:
                raise
            path = os.fsdecode(self._files[field].path_of(sample_id))
            raise type(error)(f"{field} {path!r}: {error}") from error
