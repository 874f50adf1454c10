"""`Dataset`: a declaration, chained; immutable; to and from plain data.

Nothing is read while it is declared. It is opened, in this process, by what needs its content: `key`, `spec`,
`compute`; a stream has it opened by a worker instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from loader_service.dataset.buckets import Buckets
from loader_service.dataset.cache.step import Cache
from loader_service.dataset.declaration import Batch, Declaration, OnError, Shuffle, kind_of
from loader_service.dataset.explain import explain
from loader_service.dataset.explained_text import Explanation
from loader_service.dataset.finish.lengths import PadLongest, RaggedRows
from loader_service.dataset.finish.map_batch import MapBatch
from loader_service.dataset.finish.step import Finish
from loader_service.dataset.given import (
    Labels,
    PathLike,
    absolute,
    checked,
    joined_parts,
    keep,
    label_column,
    parts_of,
    row_array,
    unique_ids,
)
from loader_service.dataset.objects import carry, named_or_carried
from loader_service.dataset.packing.writer import Packed, write_pack
from loader_service.dataset.plan import Plan
from loader_service.dataset.preview.preview import Preview, preview
from loader_service.dataset.selection.drawn import Balanced, Weighted, check_weights
from loader_service.dataset.selection.filter import Filter
from loader_service.dataset.selection.runs import Skip, Take
from loader_service.dataset.selection.split import Split
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.shown import shown
from loader_service.dataset.sources.arrays import Arrays, RaggedRef, ragged_of
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
from loader_service.dataset.sources.source import Source
from loader_service.dataset.sources.table import FileColumns, LabelColumns, Table, declare_rows
from loader_service.dataset.sources.volumes import Volumes
from loader_service.dataset.statistics.gather import Progress, gather
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.stitching import stitch
from loader_service.dataset.transforms.flip import RandomFlip
from loader_service.dataset.transforms.geometry import (
    CenterCrop,
    Interpolation,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)
from loader_service.dataset.transforms.map import Map
from loader_service.dataset.transforms.pad import PadTo
from loader_service.dataset.transforms.patch import RandomPatch
from loader_service.dataset.transforms.transform import Transform
from loader_service.dataset.transforms.values import Cast, ClassIndex, Normalize, OneHot, Rescale
from loader_service.dataset.user_code import UserCode
from loader_service.dataset.whole import AnyPlan, open_plan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS
from loader_service.protocol.ragged import Ragged, assembled
from loader_service.protocol.spec import FieldSpec, describe
from loader_service.protocol.tables import TableRef, pack_strings

ManyArrays = ArrayLike | PathLike | Sequence[PathLike]  # one array or several, in memory or in files
MAP_ADVICE = 'write a function in a module, for example augment.py, and name it: "augment:noise"'
SOURCE_ADVICE = (
    "write a function in a module that makes it, for example waves in my_data.py, and name it: "
    'Dataset.from_python("my_data:waves")'
)
KERAS_ADVICE = (
    "write a function in a module that makes it, for example make_training in my_classes.py, and name it: "
    'Dataset.from_keras("my_classes:make_training")'
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What to load and how: a source, transforms, an order, a batch size. Every method returns a new one.

    >>> digits = Dataset.from_arrays(x=np.zeros((10, 8, 8, 1), "uint8"), y=np.arange(10))
    >>> ds = digits.rescale(1 / 255, field="x").shuffle(seed=7).batch(4)
    >>> {name: array.shape for name, array in ds.compute(2).items()}
    {'x': (2, 8, 8, 1), 'y': (2,)}
    """

    declaration: Declaration
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)  # arrays that it names, by hash

    # -- sources ---------------------------------------------------------------------------------------------

    @classmethod
    def from_image_folder(cls, path: PathLike, *, color: Literal["rgb", "grayscale"] = "rgb") -> Dataset:
        """Read pictures from class sub-folders: `path/CLASS/any.jpg`.

        Fields: `image`, uint8 (height, width, 3) RGB, or (height, width, 1) for `color="grayscale"`; `label`,
        int64 (), the place of the class among the sorted names of the sub-folders. Pictures must be of one size,
        unless a transform makes them so.
        """
        return cls._of(ImageFolder, path=absolute(path), color=color)

    @classmethod
    def from_npy_files(
        cls, folder: PathLike, ids: Sequence[str] | None = None, labels: Labels | None = None
    ) -> Dataset:
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
        color: Literal["rgb", "grayscale"] = "rgb",
        masks: Sequence[str] = ("mask",),
    ) -> Dataset:
        """Read files that are listed: pictures into the field `image`, `.npy` files into `x`; and `label`, where given.

        Args:
            paths: One path for each sample; a dict from field to paths, for several files each; or a folder, or a
                pattern such as "photos/*.jpg", whose files are read in the order of their names, without labels.
            labels: One row for each path: numbers, arrays, or text, which is numbered by its classes; or a dict
                from field to such a column.
            root: Folder that relative paths are relative to; the current one where None.
            classes: Their names, in the order of their numbers; those of the labels, sorted, where None.
            color: Of pictures: (height, width, 3) RGB, or (height, width, 1).
            masks: Fields whose pictures hold a number in each pixel, which is left alone: (height, width, 1).
        Raises:
            DatasetError: If lists differ in length, a path is there twice, or a label is missing or NaN; by name.
        """
        tables: dict[str, np.ndarray] = {}
        options = declare_files(paths, labels, root, classes, partial(keep, tables=tables))
        return cls._of(Files, tables, **options, color=color, masks=masks)

    @classmethod
    def from_table(
        cls,
        table: Any,
        path: FileColumns = "path",
        labels: LabelColumns = "label",
        *,
        root: PathLike | None = None,
        classes: Sequence[str] | None = None,
        color: Literal["rgb", "grayscale"] = "rgb",
        masks: Sequence[str] = ("mask",),
    ) -> Dataset:
        """Read the files that a table lists: a CSV file, lines of text `path label`, or a frame of pandas'.

        A file is read by a worker, a table in memory at once. Fields are those of `from_files`.

        Args:
            table: Path of a `.csv` or `.tsv` file, whose first line names the columns, or of any other, whose lines
                hold a path and a label; or a table in memory: a frame of pandas' or polars', a dict of lists.
            path: The column of paths; a dict from field to column, for several files each.
            labels: The column of the field `label`; several columns of numbers, for a vector; a dict from field to
                either; None for none.
            root: Folder that relative paths are relative to. Where None, that of the table's file, or the current one.
            classes, color, masks: As in `from_files`.
        Raises:
            DatasetError: If a column is missing, or one of its cells cannot be used; by name.
        """
        if not isinstance(table, str | os.PathLike):
            tables: dict[str, np.ndarray] = {}
            rows = declare_rows(table, path, labels, root, classes, partial(keep, tables=tables))
            return cls._of(Files, tables, **rows, color=color, masks=masks)
        return cls._of(
            Table,
            path=absolute(table),
            files=path,
            labels=labels,
            root=None if root is None else absolute(root),
            classes=classes,
            color=color,
            masks=masks,
        )

    @classmethod
    def from_paired_files(
        cls, *, color: Literal["rgb", "grayscale"] = "rgb", masks: Sequence[str] = ("mask",), **fields: PathLike
    ) -> Dataset:
        """Read files that belong together by name: `image="images/image_*.png", label="labels/label_*.npy"`.

        Args:
            fields: A pattern for each field. Its one `*` is what a sample's files have in common, within one folder's
                name or a file's; `**/*` takes folders in between, too. Samples are in the order of it.
            color, masks: As in `from_files`.
        Raises:
            DatasetError: If a file has no partner: says how many, and names them.
        """
        return cls._of(
            PairedFiles, fields={field: absolute(where) for field, where in fields.items()}, color=color, masks=masks
        )

    @classmethod
    def from_pack(cls, path: PathLike) -> Dataset:
        """Read a pack, one mapped file with all samples of a source: what `loader-service pack` has written.

        Fields, names, labels, class names and the order of samples are those of the source that was packed.
        """
        return cls._of(Pack, path=absolute(path))

    @classmethod
    def from_arrays(cls, **fields: ArrayLike | PathLike | Ragged | Sequence[ArrayLike]) -> Dataset:
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
    def from_python(cls, attr: str | Any) -> Dataset:
        """Read your own source: an object with `len()` and `[i]`, or what makes one.

        `source[i]` returns a dict of arrays; or a tuple (x, y) or (x, y, weight), as those made for PyTorch do. It is
        named by import path, and imported in every worker. One that has no import path is sent to the workers of a
        private daemon, and to no others.
        """
        tables: dict[str, np.ndarray] = {}
        return cls._of(Python, tables, attr=named_or_carried(attr, "from_python", SOURCE_ADVICE, tables))

    @classmethod
    def from_generator(cls, function: str | Callable[[], Any], *, samples: int) -> Dataset:
        """Read a plain Python generator, live: what it yields next is the next sample.

        A sample is a dict of arrays, or (x, y). One worker runs the generator; where it ends, or the worker dies, it
        is begun anew. Given up is what only sources have that are read by number: resuming, sharing, shuffling, shards,
        the same batches for the same seed.

        Args:
            function: Returns the generator; named, or given, as in `map`.
            samples: Of an epoch: a generator cannot tell.
        """
        tables: dict[str, np.ndarray] = {}
        code = named_or_carried(function, "from_generator", MAP_ADVICE, tables)
        return cls._of(Generator, tables, function=code, samples=samples)

    @classmethod
    def from_keras(cls, sequence: str | Any, *, seed: int = 0) -> Dataset:
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
    ) -> Dataset:
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
    def from_volumes(cls, x: ManyArrays, *, repeat: int = 1, **fields: ManyArrays) -> Dataset:
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
    ) -> Dataset:
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
    def concat(cls, *datasets: Dataset) -> Dataset:
        """Put datasets together: the samples of the first, then those of the next.

        Each keeps its source, transforms and selection; order and batches are declared for all of them. Their rows must
        be alike. Ids are those of each one's source, counted on from where those of the one before end.
        """
        parts, tables = joined_parts("concat", datasets)
        return cls._of(Concat, tables, parts=parts)

    @classmethod
    def mix(cls, datasets: Sequence[Dataset], weights: Sequence[float], *, samples: int | None = None) -> Dataset:
        """Mix datasets: a share of each epoch comes from each, in the proportion of their weights.

        Each is read through in a shuffled order, and when it has run out, in the next one, at its own speed: none of
        its samples comes again before all of them have come. Otherwise as `concat`.

        Args:
            samples: Of an epoch; as many as the datasets have together, where None.
        """
        parts, tables = joined_parts("mix", datasets)
        return cls._of(Mix, tables, parts=parts, weights=tuple(weights), samples=samples)

    # -- transforms ------------------------------------------------------------------------------------------

    def resize(
        self, height: int, width: int, *, interpolation: Interpolation = "bilinear", field: str = "image"
    ) -> Dataset:
        """Scale pictures to (height, width) pixels, whatever their aspect ratio was."""
        return self._then(Resize, height=height, width=width, interpolation=interpolation, field=field)

    def center_crop(self, height: int, width: int, *, field: str = "image") -> Dataset:
        """Cut (height, width) pixels out of the middle."""
        return self._then(CenterCrop, height=height, width=width, field=field)

    def random_crop(self, height: int, width: int, *, field: str = "image") -> Dataset:
        """Cut (height, width) pixels out of anywhere."""
        return self._then(RandomCrop, height=height, width=width, field=field)

    def random_resized_crop(
        self,
        height: int,
        width: int,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Interpolation = "bilinear",
        field: str = "image",
    ) -> Dataset:
        """Cut out a part of `scale` of the area and of an aspect ratio in `ratio`; scale it to (height, width)."""
        return self._then(
            RandomResizedCrop,
            height=height,
            width=width,
            scale=scale,
            ratio=ratio,
            interpolation=interpolation,
            field=field,
        )

    def random_flip(self, *, horizontal: float = 0.5, vertical: float = 0.0, field: str = "image") -> Dataset:
        """Mirror left-right and top-bottom, each with its probability."""
        return self._then(RandomFlip, horizontal=horizontal, vertical=vertical, field=field)

    def random_patch(self, size: Sequence[int], *, field: str | Sequence[str] = "image") -> Dataset:
        """Cut `size` out of anywhere along the first axes, at the same place of all fields that are named."""
        return self._then(RandomPatch, size=size, field=field)

    def rescale(self, scale: float, offset: float = 0.0, *, field: str = "image") -> Dataset:
        """Make it value * scale + offset, as float32."""
        return self._then(Rescale, scale=scale, offset=offset, field=field)

    def normalize(
        self,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        *,
        stats: Stats | PathLike | None = None,
        field: str = "image",
    ) -> Dataset:
        """Make it (value - mean) / std, as float32; one number each, or one for each entry of the last axis.

        Args:
            stats: What `stats()` returned, or the file that it was written to: mean and std of the field are taken out
                of it at once, and are part of the dataset from there on. They are right for samples as they were when
                they were counted: say it where the transforms of then end.
        Raises:
            DatasetError: If mean and std are missing, or are there twice; or if statistics have none of this field.
        """
        if stats is None:
            given = {name: value for name, value in (("mean", mean), ("std", std)) if value is not None}
            return self._then(Normalize, **given, field=field)
        if mean is not None or std is not None:
            raise DatasetError("normalize: mean and std come from stats: give either")
        mean, std = (stats if isinstance(stats, Stats) else Stats.load(stats)).scale_of(field)
        return self._then(Normalize, mean=mean, std=std, field=field)

    def one_hot(self, field: str, classes: int, *, smoothing: float = 0.0) -> Dataset:
        """Turn class numbers into float32 vectors of length `classes`.

        Args:
            smoothing: Share of the one that is spread over all classes alike, in [0, 1).
        """
        return self._then(OneHot, field=field, classes=classes, smoothing=smoothing)

    def class_index(self, field: str) -> Dataset:
        """Turn vectors with one entry for each class into class numbers, int64: the place of the largest."""
        return self._then(ClassIndex, field=field)

    def cast(self, field: str, dtype: str) -> Dataset:
        """Change a field's dtype: NumPy's numbers and bool, and "bfloat16", which needs the package ml_dtypes."""
        return self._then(Cast, field=field, dtype=dtype)

    def map(self, function: str | Callable[..., dict[str, Any]]) -> Dataset:
        """Call your function on every sample: a dict of arrays in, a dict of arrays out.

        It is named by import path, "augment:noise", or given. One that has no import path (a lambda, a function inside
        a function, one of the script) is sent to the workers of a private daemon, and to no others. An argument named
        `rng` receives a `numpy.random.Generator` of this sample's own; `random` and `numpy.random` are seeded too.

        Raises:
            DatasetError: If there is no such module, or the function has no import path and cannot be pickled.
        """
        tables = dict(self.tables)
        step = self._then(Map, function=named_or_carried(function, "map", MAP_ADVICE, tables))
        return replace(step, tables=tables)

    # -- rows that differ in length, and whole batches -------------------------------------------------------

    def pad(
        self,
        field: str,
        to: int | Literal["longest", "bucket"] = "longest",
        *,
        most: int | None = None,
        value: float = 0,
        truncate: bool = False,
        mask: str | None = None,
        lengths: str | None = None,
    ) -> Dataset:
        """Bring rows of different lengths to one length: that of their batch's longest, of its bucket, or always one.

        Args:
            field: Its first axis is padded, at the end.
            to: "longest"; "bucket", the boundary of the bucket that the longest would be in; or the number of entries
                that each row gets.
            most: Entries of the longest row of all, for which room is kept; needed for "longest" where the source
                does not know it.
            value: What is put behind a row's end.
            truncate: Cut off the end of rows that are longer than `to`; otherwise, these are an error.
            mask: Name of a further field, bool (length,): where a row has entries.
            lengths: Name of a further field, int64 (): how many entries a row has.
        """
        further: dict[str, Any] = {"value": value, "mask": mask, "lengths": lengths}
        if to == "bucket":
            buckets = self.declaration.bucket_by_length
            if buckets is None:
                raise DatasetError('pad: to="bucket" needs buckets: say .bucket_by_length(...) before')
            further["boundaries"] = buckets.boundaries
        if to in ("longest", "bucket"):
            if truncate:
                raise DatasetError("pad: truncate=True needs a length to cut rows off at: say to=...")
            return self._finish(PadLongest, field=field, most=most, **further)
        if most is not None:
            raise DatasetError(f"pad: all rows get {to} entries: leave out most=..., or say to='longest'")
        return self._then(PadTo, field=field, length=to, truncate=truncate, **further)

    def ragged(self, field: str, *, most: int | None = None) -> Dataset:
        """Keep rows of different lengths as they are: a batch has a `Ragged`, of `values` and `row_splits`.

        Args:
            most: Entries of the longest row, for which room is kept; needed where the source does not know it.
        """
        return self._finish(RaggedRows, field=field, most=most)

    def text(self, field: str, *, most: int) -> Dataset:
        """Keep room for longer strings: a field of strings has 1,000 bytes for each unless told otherwise.

        Args:
            most: Bytes of the longest one, in UTF-8.
        """
        return self._finish(RaggedRows, kind="text", field=field, most=most)

    def map_batch(self, function: str | Callable[..., dict[str, Any]]) -> Dataset:
        """Call your function on every batch, when all its rows are there: a dict of arrays in, a dict of arrays out.

        All arrays have one row for each sample, in and out. The function is named as for `map`, and its random
        numbers are pinned in the same way. Of a shard, it sees that shard's rows.
        """
        tables = dict(self.tables)
        step = self._finish(MapBatch, function=named_or_carried(function, "map_batch", MAP_ADVICE, tables))
        return replace(step, tables=tables)

    # -- which samples ---------------------------------------------------------------------------------------

    def take(self, n: int) -> Dataset:
        """Keep the first `n` samples; all, where there are fewer."""
        return self._count(Take, n)

    def skip(self, n: int) -> Dataset:
        """Leave out the first `n` samples."""
        return self._count(Skip, n)

    def filter(self, function: str | Callable[[dict[str, Any]], bool] | None = None, /, **values: Any) -> Dataset:
        """Keep some samples: `filter(label=3)`, `filter(label=["cat", "dog"])`, `filter("keep:large")`.

        All are looked at once, when the dataset is opened, and as they are at the source: before all transforms,
        wherever this stands among them.

        Args:
            function: Gets a sample, a dict of arrays, and returns True or False; named by import path, as for `map`.
            values: For each field the value that it must have, or several of which it must have one. The name of a
                class stands for its number.
        """
        return self._select(Filter, function=None if function is None else UserCode.of(function), values=values)

    def split(self, validation: float = 0.2, seed: int = 0, stratify: str | None = None) -> tuple[Dataset, Dataset]:
        """Split the samples by chance into two parts, one to train with and one to validate with.

        Args:
            validation: Share of the samples that validate, between 0 and 1; there is at least one in either part.
            seed: Sets which they are. The same for the same seed, whatever `shuffle` says.
            stratify: A field of the source, most often "label": the share then holds for each of its values.
        Returns:
            The dataset to train with, and the one to validate with.
        """
        options = {"validation": validation, "seed": seed, "stratify": stratify}
        return self._select(Split, part="train", **options), self._select(Split, part="validation", **options)

    def balanced(self, field: str = "label", *, samples: int | None = None) -> Dataset:
        """Draw from all classes alike, however many samples they have.

        Their turns come equally often, and no sample comes again before all others of its class have come. Draws are
        others in each epoch, and come in a shuffled order in any case.

        Args:
            field: A field of the source, one number a sample: those with the same number are a class.
            samples: Draws of an epoch; as many as there are samples, where None.
        """
        return self._select(Balanced, field=field, samples=samples)

    def weighted(self, weights: ArrayLike | PathLike, *, samples: int | None = None) -> Dataset:
        """Draw samples as often as their weights say, with replacement; anew in each epoch.

        Args:
            weights: One for each sample of the source, 0 or more, also where only some of the samples are selected; or
                the path of a `.npy` file with them. They need not sum to 1.
            samples: Draws of an epoch; as many as there are samples, where None.
        """
        if isinstance(weights, str | os.PathLike):
            return self._select(Weighted, weights=absolute(weights), samples=samples)
        array = row_array("weighted: weights", weights)
        check_weights(array)
        tables = dict(self.tables)
        made = self._select(Weighted, weights=keep(array, tables), samples=samples)
        return replace(made, tables=tables)

    # -- keeping samples ---------------------------------------------------------------------------------------

    def cache(self, most: int | str | None = None, *, path: PathLike | None = None) -> Dataset:
        """Keep what the steps so far make of each sample: for further epochs, runs and trainers.

        Samples are kept on the disk, where all workers map them. They are found again by the hash of the source, its
        files, the steps before, and the code of yours among these: whatever changes has a cache of its own, and a file
        that changed is read again. Say it before all that is random. Batches are the same with it and without.

        Args:
            most: Bytes that it may take, as in "20 GiB". What comes first stays; the rest is made anew each time. Where
                None, half of what the disk has left.
            path: Folder in which it lies; that of the user's caches where None: see `loader-service cache`.
        Raises:
            DatasetError: If a step before is random, or the source is read live.
        """
        if self.declaration.cache is not None:
            raise DatasetError("cache: there is one already: one is enough, behind all that is to be kept")
        if self.declaration.finish:
            raise DatasetError(f"cache: it keeps samples, so say it before {self.declaration.finish[0].kind}")
        where = None if path is None else absolute(path)
        made = checked(Cache, after=len(self.declaration.transforms), most=most, path=where)
        plain = {**vars(self.declaration), "cache": made}
        return replace(self, declaration=checked(Declaration, **plain))

    # -- order and batches -----------------------------------------------------------------------------------

    def shuffle(self, seed: int = 0) -> Dataset:
        """Visit samples in a new order each epoch; `seed` sets it, and all that is random in the transforms."""
        return self._replace(shuffle=checked(Shuffle, seed=seed))

    def bucket_by_length(self, field: str, boundaries: Sequence[int], *, lengths: ArrayLike | None = None) -> Dataset:
        """Put samples of about one length into each batch, so that little is padded; add `.pad(field, to="bucket")`.

        A bucket has the samples up to one boundary, from the one before on; a last one has those that are longer. Whole
        batches of all buckets are shuffled together; the short last batches of the buckets end the epoch.

        Args:
            boundaries: The longest row of each bucket, rising.
            lengths: A whole number for each sample of the source, where that does not know them itself.
        Raises:
            DatasetError: If boundaries do not rise.
        """
        tables = dict(self.tables)
        kept = None if lengths is None else keep(row_array("bucket_by_length: lengths", lengths), tables)
        made = checked(Buckets, field=field, boundaries=tuple(boundaries), lengths=kept)
        return replace(self._replace(bucket_by_length=made), tables=tables)

    def batch(self, size: int, remainder: Literal["keep", "drop", "pad"] = "keep") -> Dataset:
        """Put `size` samples into each batch.

        Args:
            remainder: What becomes of an epoch's last samples where they fill no whole batch: "keep" makes a
                short one, "drop" leaves them out, "pad" fills it up with rows of zeros and adds the field
                `weight`, which is 0 for them and 1 for all others.
        """
        return self._replace(batch=checked(Batch, size=size, remainder=remainder))

    def on_error(self, policy: Literal["raise", "replace"], *, most: float = 0.01) -> Dataset:
        """Say what becomes of a sample that cannot be made: it raises twice, or three workers die over it.

        Args:
            policy: "raise" names it in an error, which is also what is done where nothing is said. "replace" puts
                another sample into its row, always the same one, and remembers that in the ledger of the dataset's key.
            most: Share of the samples that may be replaced, in (0, 1]; one may be in any case. Beyond it, an error.
        """
        said = checked(OnError, policy=policy, most=most)
        return self._replace(on_error=None if policy == "raise" else said)

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The hash of the declaration, of what it reads, and of the user code that it names."""
        return self.plan.key

    @property
    def spec(self) -> dict[str, FieldSpec]:
        """Shape and dtype of each field of a row."""
        return dict(self.plan.spec)

    @property
    def samples(self) -> int:
        """Samples of an epoch: those that are selected, or the draws among them."""
        return self.plan.samples

    @property
    def batches_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.plan.batches_per_epoch

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, where the source knows them."""
        return list(self.plan.class_names)

    def compute(self, n: int) -> dict[str, Any]:
        """Make batch `n` in this process; `n` counts from 0 over all epochs. This is what a batch *is*."""
        batch = self.plan.compute(n)
        del batch[IDS]
        return assembled(batch, self.plan.spec)

    def stats(
        self,
        fields: str | Sequence[str] | None = None,
        *,
        channels: str | Sequence[str] = (),
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Stats:
        """Read every sample once, in workers, and return mean, std, range, classes and sizes of each field.

        Samples are those of epoch 0, after all transforms and before what is done to whole batches: padding does not
        count. A field whose rows have two axes or more has a number for each channel, which is an entry of the last
        axis; any other has one number for all of its entries. NaN and infinite numbers are counted, and left out.

        Args:
            fields: Their names; all that hold numbers, where None.
            channels: Fields whose rows have one axis, each entry of which has a mean of its own: those of a table.
            workers: As in `connect`: None joins a daemon, or starts a private one; 0 works in this process.
            progress: Called again and again with the samples that are done, and with how many there are.
        Raises:
            DatasetError: If a field that is named is not there, or holds no real numbers; or if there are none at all.
            SampleError: If a sample cannot be made. With `on_error("replace")` it is left out instead.
        """
        # The one place of this floor that looks up to the client: to be added up, samples have to be read.
        from loader_client import connect

        return gather(self, fields, channels, progress, partial(connect, workers=workers))

    def stitch(self, predictions: ArrayLike | Iterable[np.ndarray]) -> list[np.ndarray]:
        """Put what a model predicts for the patches of `from_patches` together: one array for each volume.

        Where patches overlap, the mean is taken, as float32 or better.

        Args:
            predictions: What `model.predict` returns, of shape (patches, *size, ...), or batches of it one by one.
        Returns:
            Arrays of shape (*volume, ...), in the order of the volumes.
        Raises:
            DatasetError: If they are too many or too few, of another size, or not in the order of the patches.
        """
        if not isinstance(self.plan, Plan):
            raise DatasetError(f"stitch: the dataset reads {self.declaration.source.kind}, which has no patches")
        return stitch(self.plan, predictions)

    def names(self, ids: ArrayLike | None = None) -> list[str]:
        """Return what samples are called: the paths of their files, where they have some.

        Args:
            ids: As `batch.ids` has them; -1, which is padding, has the name "". All samples, in the order of the
                source, where None.
        """
        return self.plan.names(None if ids is None else np.asarray(ids))

    def explain(self) -> Explanation:
        """Return the plan that will run: steps, sizes, order, memory, the key; `print` it, or take its `plain` data."""
        return Explanation(explain(self.plan))

    def preview(
        self, n: int = 4, *, epoch: int = 0, epochs: int = 4, seed: int | None = None, field: str | Sequence[str] = ()
    ) -> Preview:
        """Draw samples, as they are and as the model gets them: a notebook shows the result, `save(path)` writes it.

        Args:
            n: Samples: the first of the epoch.
            epoch: Whose order, and whose random numbers, are shown first.
            epochs: How many epochs' random numbers are shown.
            seed: In place of the dataset's own, for another order and other random numbers.
            field: What to draw, a field or several; all that can be drawn, where nothing is said.
        Raises:
            DatasetError: If there are fewer samples, nothing to draw, or a sample cannot be made; it is named.
        """
        fields = (field,) if isinstance(field, str) else tuple(field)
        return preview(self.declaration, self._table, n=n, epoch=epoch, epochs=epochs, seed=seed, fields=fields)

    def pack(
        self,
        path: PathLike,
        *,
        decode: bool = False,
        force: bool = False,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> Packed:
        """Write all samples of the source into one file, for `from_pack`: transforms and the like are not part of it.

        If it is interrupted, the same call goes on.

        Args:
            decode: Keep arrays that need no decoding any more, not the bytes of the files.
            force: Replace the file if it exists; begin anew where the source has changed since it was interrupted.
            told: Called with the steps that are done, and with all there are: to write each file, and to read it back.
        Raises:
            DatasetError: If the source is none that is packed, a file cannot be read, or the pack not be written.
        """
        return write_pack(self.declaration.source, self._table, absolute(path), decode=decode, force=force, told=told)

    @cached_property
    def plan(self) -> AnyPlan:
        """The dataset opened in this process."""
        return open_plan(self.declaration, self._table)

    def to_dict(self) -> dict[str, Any]:
        """Return its plain form: what the config file holds, and messages carry. Arrays appear as hashes."""
        return self.declaration.to_plain()

    @classmethod
    def from_dict(cls, plain: dict[str, Any], tables: Mapping[str, np.ndarray] | None = None) -> Dataset:
        """Return the dataset that `to_dict` described."""
        return cls(Declaration.from_plain(plain), tables or {})

    def __repr__(self) -> str:
        found = f": {self.samples:,} samples, {describe(self.spec)}" if "plan" in vars(self) else ""  # opens nothing
        return f"<Dataset {shown(self.declaration)}{found}>"

    # -- building --------------------------------------------------------------------------------------------

    @classmethod
    def _of(cls, source: type[Source], tables: Mapping[str, np.ndarray] | None = None, **options: Any) -> Dataset:
        made: Any = checked(source, **options)
        return cls(Declaration(source=made), tables or {})

    def _table(self, ref: TableRef, *, private: bool = False) -> np.ndarray:
        """Return an array that the declaration names: read-only, as workers see it; or a copy of one's own."""
        if ref.table not in self.tables:
            raise DatasetError(
                "the dataset reads arrays in memory, which its plain form names by their hash only: "
                "give them to from_dict, as `tables`"
            )
        array = self.tables[ref.table].view()
        if private:
            return array.copy()
        array.flags.writeable = False
        return array

    def _finish(self, step: type[Finish], **options: Any) -> Dataset:
        made: Any = checked(step, **options)
        last = self.declaration.finish[-1:]
        if last and last[0].kind == "map_batch" and made.kind != "map_batch":
            raise DatasetError(f"{made.kind}: say it before map_batch, whose function sees batches as they are then")
        return self._replace(finish=(*self.declaration.finish, made))

    def _then(self, transform: type[Transform], **options: Any) -> Dataset:
        if self.declaration.finish:
            done, kind = self.declaration.finish[-1].kind, transform.model_fields["kind"].default
            raise DatasetError(f"{kind}: it acts on samples, so say it before {done}, which acts on whole batches")
        step: Any = checked(transform, **options)
        return self._replace(transforms=(*self.declaration.transforms, step))

    def _count(self, step: type[SelectionStep], n: int) -> Dataset:
        name = kind_of(step)
        if self.declaration.shuffle:
            raise DatasetError(
                f"{name} stands behind shuffle, but it counts samples in the order of the source, which are the same "
                "ones in each epoch: put it before .shuffle(...). To choose some by chance, there is .split(...)"
            )
        return self._select(step, n=n)

    def _select(self, step: type[SelectionStep], **options: Any) -> Dataset:
        made: Any = checked(step, **options)
        if self.declaration.batch:
            raise DatasetError(f"{made.kind} stands behind batch, but it is about samples: put it before .batch(...)")
        selected = self._replace(select=(*self.declaration.select, made))
        if told := selected.declaration.misplaced():
            raise DatasetError(told)
        return selected

    def _replace(self, **changes: Any) -> Dataset:
        return replace(self, declaration=self.declaration.model_copy(update=changes))
