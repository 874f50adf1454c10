"""Where samples come from: the methods that begin a chain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from loader_service.dataset.chained.declared import FUNCTION_ADVICE, Declared
from loader_service.dataset.given import (
    Labels,
    PathLike,
    absolute,
    joined_parts,
    keep,
    label_column,
    parts_of,
    row_array,
    unique_ids,
)
from loader_service.dataset.objects import carry, named_or_carried
from loader_service.dataset.sources.arrays import Arrays, RaggedRef, ragged_of
from loader_service.dataset.sources.decoding import Color
from loader_service.dataset.sources.files import Files, declare_files
from loader_service.dataset.sources.generator import Generator
from loader_service.dataset.sources.image_folder import ImageFolder
from loader_service.dataset.sources.joined import Concat, Mix
from loader_service.dataset.sources.keras_sequence import KerasSequence
from loader_service.dataset.sources.npy_files import NpyFiles, list_ids
from loader_service.dataset.sources.pack import Pack
from loader_service.dataset.sources.paired_files import PairedFiles
from loader_service.dataset.sources.patches import Patches
from loader_service.dataset.sources.python import Python
from loader_service.dataset.sources.series import Series
from loader_service.dataset.sources.table import FileColumns, LabelColumns, Table, declare_rows
from loader_service.dataset.sources.volumes import Volumes
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ragged import Ragged
from loader_service.protocol.tables import TableRef, pack_strings

ManyArrays = ArrayLike | PathLike | Sequence[PathLike]  # one array or several, in memory or in files
SOURCE_ADVICE = (
    "write a function in a module that makes it, for example waves in my_data.py, and name it: "
    'Dataset.from_python("my_data:waves")'
)
KERAS_ADVICE = (
    "write a function in a module that makes it, for example make_training in my_classes.py, and name it: "
    'Dataset.from_keras("my_classes:make_training")'
)


class Sources(Declared):
    """The `from_...` methods, and those that put datasets together."""

    @classmethod
    def from_image_folder(
        cls,
        path: PathLike,
        *,
        classes: Sequence[str] | None = None,
        color: Color = "rgb",
        shrink_on_load: bool = False,
    ) -> Self:
        """Read pictures from class sub-folders: `path/CLASS/any.jpg`.

        Fields: `image`, uint8 (height, width, 3) RGB; `label`, int64 (), the place of the class among the sorted names
        of the sub-folders. Pictures must be of one size, unless a transform makes them so.

        Args:
            classes: Sub-folders in the order of their numbers; others are left out. All, sorted, where None.
            color: "rgb", "grayscale" (height, width, 1), or "rgba" (height, width, 4), whose alpha is 255 where a file
                has none.
            shrink_on_load: Whether a JPEG that the first step scales down by 2 or more is decoded at a half, a quarter
                or an eighth of its size: much faster, and smoother by some levels.
        """
        return cls._of(ImageFolder, path=absolute(path), classes=classes, color=color, shrink_on_load=shrink_on_load)

    @classmethod
    def from_npy_files(cls, folder: PathLike, ids: Sequence[str] | None = None, labels: Labels | None = None) -> Self:
        """Read one `.npy` file a sample: `folder/ID.npy`.

        Fields: `x`, as the files hold it, all alike; and `label`, where labels are given.

        Args:
            ids: File names without `.npy`; all of the folder, sorted, where None.
            labels: A dict from id to label, or one label for each id, in their order.
        Raises:
            DatasetError: If an id has no label.
        """
        path = absolute(folder)
        tables: dict[str, np.ndarray] = {}
        if ids is None and isinstance(labels, Mapping):
            ids = list_ids(path)
        packed = None
        if ids is not None:
            packed = {name: keep(array, tables) for name, array in pack_strings(unique_ids(ids)).items()}
        column = None
        if labels is not None:
            column = keep(label_column(ids, labels), tables)
        return cls._of(NpyFiles, tables, path=path, ids=packed, labels=column)

    @classmethod
    def from_files(
        cls,
        paths: PathLike | Iterable[PathLike] | Mapping[str, Iterable[PathLike]],
        labels: Labels | None = None,
        *,
        root: PathLike | None = None,
        classes: Sequence[str] | None = None,
        color: Color = "rgb",
        shrink_on_load: bool = False,
        masks: Sequence[str] = ("mask",),
    ) -> Self:
        """Read files that are listed: pictures into the field `image`, `.npy` files into `x`; and `label`, where given.

        Args:
            paths: One path for each sample; a dict from field to paths, for several files each; or a folder, or a
                pattern such as "photos/*.jpg", whose files are read in the order of their names, without labels.
            labels: One row for each path: numbers, arrays, or text, which is numbered by its classes; or a dict
                from field to such a column.
            root: Folder that relative paths are relative to; the current one where None.
            classes: Their names, in the order of their numbers; those of the labels, sorted, where None.
            color: Of pictures: "rgb" (height, width, 3), "grayscale" (height, width, 1), or "rgba" (height, width, 4).
            shrink_on_load: As in `from_image_folder`.
            masks: Fields whose pictures hold a number in each pixel, which is left alone: (height, width, 1).
        Raises:
            DatasetError: If lists differ in length, a path is there twice, or a label is missing or NaN; by name.
        """
        tables: dict[str, np.ndarray] = {}
        options = declare_files(paths, labels, root, classes, partial(keep, tables=tables))
        return cls._of(Files, tables, **options, color=color, shrink_on_load=shrink_on_load, masks=masks)

    @classmethod
    def from_table(
        cls,
        table: Any,
        path: FileColumns = "path",
        labels: LabelColumns = "label",
        *,
        root: PathLike | None = None,
        classes: Sequence[str] | None = None,
        color: Color = "rgb",
        shrink_on_load: bool = False,
        masks: Sequence[str] = ("mask",),
    ) -> Self:
        """Read the files that a table lists: a CSV file, lines of text `path label`, or a frame of pandas'.

        A file is read by a worker, a table in memory at once. Fields are those of `from_files`.

        Args:
            table: Path of a `.csv` or `.tsv` file, whose first line names the columns, or of any other, whose lines
                hold a path and a label; or a table in memory: a frame of pandas' or polars', a dict of lists.
            path: The column of paths; a dict from field to column, for several files each.
            labels: The column of the field `label`; several columns of numbers, for a vector; a dict from field to
                either; None for none.
            root: Folder that relative paths are relative to. Where None, that of the table's file, or the current one.
            classes, color, shrink_on_load, masks: As in `from_files`.
        Raises:
            DatasetError: If a column is missing, or one of its cells cannot be used; by name.
        """
        if not isinstance(table, str | os.PathLike):
            tables: dict[str, np.ndarray] = {}
            rows = declare_rows(table, path, labels, root, classes, partial(keep, tables=tables))
            return cls._of(Files, tables, **rows, color=color, shrink_on_load=shrink_on_load, masks=masks)
        return cls._of(
            Table,
            path=absolute(table),
            files=path,
            labels=labels,
            root=None if root is None else absolute(root),
            classes=classes,
            color=color,
            shrink_on_load=shrink_on_load,
            masks=masks,
        )

    @classmethod
    def from_paired_files(
        cls,
        *,
        color: Color = "rgb",
        shrink_on_load: bool = False,
        masks: Sequence[str] = ("mask",),
        **fields: PathLike,
    ) -> Self:
        """Read files that belong together by name: `image="images/image_*.png", label="labels/label_*.npy"`.

        Args:
            fields: A pattern for each field. Its one `*` is what a sample's files have in common, within one folder's
                name or a file's; `**/*` takes folders in between, too. Samples are in the order of it.
            color, shrink_on_load, masks: As in `from_files`.
        Raises:
            DatasetError: If a file has no partner: says how many, and names them.
        """
        return cls._of(
            PairedFiles,
            fields={field: absolute(where) for field, where in fields.items()},
            color=color,
            shrink_on_load=shrink_on_load,
            masks=masks,
        )

    @classmethod
    def from_pack(cls, path: PathLike) -> Self:
        """Read a pack, one mapped file with all samples of a source: what `loader-service pack` has written.

        Fields, names, labels, class names and the order of samples are those of the source that was packed.
        """
        return cls._of(Pack, path=absolute(path))

    @classmethod
    def from_arrays(cls, **fields: ArrayLike | PathLike | Ragged | Sequence[ArrayLike]) -> Self:
        """Read rows of arrays: `from_arrays(x="x.npy", y=labels)`; all must have the same length.

        A path of a `.npy` file is memory-mapped by the workers. An array in memory is copied once into shared
        memory when a stream is opened over it. A list of arrays that differ in length, or a `Ragged`, makes rows of
        different lengths: see `pad` and `ragged`.
        """
        if not fields:
            raise DatasetError("from_arrays needs at least one field: from_arrays(x=..., y=...)")
        tables: dict[str, np.ndarray] = {}
        sources: dict[str, str | TableRef | RaggedRef] = {}
        for name, value in fields.items():
            if isinstance(value, str | os.PathLike):
                sources[name] = absolute(value)
            elif (ragged := ragged_of(name, value)) is not None:
                values, splits = keep(ragged.values, tables), keep(ragged.row_splits, tables)
                sources[name] = RaggedRef(values=values, row_splits=splits)
            else:
                sources[name] = keep(row_array(f"from_arrays: {name!r}", value), tables)
        return cls._of(Arrays, tables, fields=sources)

    @classmethod
    def from_python(cls, attr: str | Any) -> Self:
        """Read your own source: an object with `len()` and `[i]`, or what makes one.

        `source[i]` returns a dict of arrays; or a tuple (x, y) or (x, y, weight), as those made for PyTorch do. It is
        named by import path, and imported in every worker. One that has no import path is sent to the workers of a
        private daemon, and to no others.
        """
        tables: dict[str, np.ndarray] = {}
        return cls._of(Python, tables, attr=named_or_carried(attr, "from_python", SOURCE_ADVICE, tables))

    @classmethod
    def from_generator(cls, function: str | Callable[[], Any], *, samples: int) -> Self:
        """Read a plain Python generator, live: what it yields next is the next sample.

        A sample is a dict of arrays, or (x, y). One worker runs the generator; where it ends, or the worker dies, it
        is begun anew. Given up is what only sources have that are read by number: resuming, sharing, shuffling, shards,
        the same batches for the same seed.

        Args:
            function: Returns the generator; named, or given, as in `map`.
            samples: Of an epoch: a generator cannot tell.
        """
        tables: dict[str, np.ndarray] = {}
        code = named_or_carried(function, "from_generator", FUNCTION_ADVICE, tables)
        return cls._of(Generator, tables, function=code, samples=samples)

    @classmethod
    def from_keras(cls, sequence: str | Any, *, seed: int = 0) -> Self:
        """Read a `keras.utils.PyDataset` (or `Sequence`) as it is: its items are the batches.

        Its `__getitem__` runs in the workers; `fit` gets the structure, shapes and dtypes that it returns. Before each
        epoch, its `on_epoch_end` and `on_epoch_begin` are called, as Keras does.

        Args:
            sequence: An import path, "my_classes:make_training": of the object, or of a class or function that makes
                one. Or the object itself, which only a private daemon's workers can take.
            seed: Of all that is random in it: `random`, `numpy.random`, and generators in its attributes.
        Raises:
            DatasetError: If the object cannot be pickled: names the attribute that is the reason.
        """
        if isinstance(sequence, str):
            return cls._of(KerasSequence, attr=UserCode.of(sequence), seed=seed)
        # What it is as the first epoch begins tells the key: its order now may be another in each run.
        carried, packed = carry(sequence, "from_keras", KERAS_ADVICE, digest="")
        return cls._of(KerasSequence, {carried.carried.table: packed}, attr=carried, seed=seed)

    @classmethod
    def from_series(
        cls,
        x: ManyArrays,
        y: ManyArrays | None = None,
        *,
        length: int,
        stride: int = 1,
        sampling_rate: int = 1,
        offset: int = 0,
        target_length: int | None = None,
        start: int = 0,
        stop: int | None = None,
        lengths: ArrayLike | PathLike | None = None,
    ) -> Self:
        """Read windows over a long series: `x[s : s + length]` and `y[s + offset]`, for s = 0, stride, 2 * stride, ...

        A list of arrays, or of paths, holds several recordings; no window crosses from one into the next, and one that
        is shorter than a window has none.

        Args:
            x: The series, of shape (steps, ...): an array, the path of a `.npy` file, or a list of either.
            y: What targets are taken from, as long as `x`; the same as `x` to foretell it.
            sampling_rate: Take each such step only; a window then reaches over `length * sampling_rate` steps.
            offset: Steps from the start of a window to its target: 0 as in Keras, `length` for the step behind it.
            target_length: Take so many steps of `y`, `sampling_rate` apart, of shape (target_length, ...), not one.
            start, stop: Use these steps of one series only, for example to keep the rest for validation.
            lengths: Steps of each recording, where one array holds all, one behind the other.
        """
        tables: dict[str, np.ndarray] = {}
        return cls._of(
            Series,
            tables,
            x=parts_of("from_series: x", x, tables),
            y=None if y is None else parts_of("from_series: y", y, tables),
            length=length,
            stride=stride,
            sampling_rate=sampling_rate,
            offset=offset,
            target_length=target_length,
            start=start,
            stop=stop,
            lengths=None if lengths is None else parts_of("from_series: lengths", lengths, tables),
        )

    @classmethod
    def from_volumes(cls, x: ManyArrays, *, repeat: int = 1, **fields: ManyArrays) -> Self:
        """Read whole volumes, or pictures, of any size: `from_volumes(["a.npy", "b.npy"], y=["mask-a.npy", ...])`.

        Files are mapped, and only what a transform takes of them is read: add `.random_patch(size, field=("x", "y"))`.

        Args:
            x: An array, the path of a `.npy` file, or a list of either; the other fields likewise, as many.
            repeat: How often each volume comes in an epoch: how many patches are taken of it.
        """
        tables: dict[str, np.ndarray] = {}
        parts = {name: parts_of(f"from_volumes: {name!r}", value, tables) for name, value in {"x": x, **fields}.items()}
        return cls._of(Volumes, tables, fields=parts, repeat=repeat)

    @classmethod
    def from_patches(
        cls, x: ManyArrays, *, size: Sequence[int], overlap: int | Sequence[int] = 0, **fields: ManyArrays
    ) -> Self:
        """Read all patches of a grid over volumes, or pictures, that are too large for a model; see `stitch`.

        The last patch of each axis is shifted inwards, so that all of a volume is covered.

        Args:
            x: An array, the path of a `.npy` file, or a list of either; the other fields likewise, as large.
            size: Of a patch along the first axes, for example (64, 64, 64); further axes stay whole.
            overlap: Of neighbouring patches, in voxels; one number for all axes, or one for each.
        """
        tables: dict[str, np.ndarray] = {}
        parts = {name: parts_of(f"from_patches: {name!r}", value, tables) for name, value in {"x": x, **fields}.items()}
        return cls._of(Patches, tables, fields=parts, size=size, overlap=overlap)

    @classmethod
    def concat(cls, *datasets: Declared) -> Self:
        """Put datasets together: the samples of the first, then those of the next.

        Each keeps its source, transforms and selection; order and batches are declared for all of them. Their rows must
        be alike. Ids are those of each one's source, counted on from where those of the one before end.
        """
        parts, tables = joined_parts("concat", datasets)
        return cls._of(Concat, tables, parts=parts)

    @classmethod
    def mix(cls, datasets: Sequence[Declared], weights: Sequence[float], *, samples: int | None = None) -> Self:
        """Mix datasets: a share of each epoch comes from each, in the proportion of their weights.

        Each is read through in a shuffled order, and when it has run out, in the next one, at its own speed: none of
        its samples comes again before all of them have come. Otherwise as `concat`.

        Args:
            samples: Of an epoch; as many as the datasets have together, where None.
        """
        parts, tables = joined_parts("mix", datasets)
        return cls._of(Mix, tables, parts=parts, weights=tuple(weights), samples=samples)
