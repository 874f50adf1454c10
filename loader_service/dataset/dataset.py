"""`Dataset`: a declaration, chained; immutable; to and from plain data.

Nothing is read while it is declared. It is opened, in this process, by what needs its content: `key`, `spec`,
`compute`; a stream has it opened by a worker instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from loader_service.dataset.collate import native
from loader_service.dataset.declaration import Batch, Declaration, OnError, Shuffle, explain
from loader_service.dataset.finish.lengths import PadLongest, RaggedRows
from loader_service.dataset.finish.map_batch import MapBatch
from loader_service.dataset.finish.step import Finish
from loader_service.dataset.objects import Carried, carry, named_or_carried
from loader_service.dataset.sources.arrays import Arrays, RaggedRef, ragged_of
from loader_service.dataset.sources.generator import Generator
from loader_service.dataset.sources.image_folder import ImageFolder
from loader_service.dataset.sources.keras_sequence import KerasSequence
from loader_service.dataset.sources.npy_files import NpyFiles, list_ids
from loader_service.dataset.sources.python import Python
from loader_service.dataset.sources.source import Source
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
from loader_service.dataset.transforms.transform import Transform
from loader_service.dataset.transforms.values import Cast, Normalize, OneHot, Rescale
from loader_service.dataset.user_code import UserCode
from loader_service.dataset.whole import AnyPlan, open_plan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS
from loader_service.protocol.ragged import Ragged, assembled
from loader_service.protocol.spec import FieldSpec, describe
from loader_service.protocol.tables import TableRef, pack_strings

PathLike = str | os.PathLike[str]
Labels = Mapping[str, Any] | ArrayLike
Model = TypeVar("Model", bound=BaseModel)
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
        return cls._of(ImageFolder, path=_absolute(path), color=color)

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
        path = _absolute(folder)
        tables: dict[str, np.ndarray] = {}
        if ids is None and isinstance(labels, Mapping):
            ids = list_ids(path)
        packed = None
        if ids is not None:
            packed = {name: _keep(array, tables) for name, array in pack_strings([str(i) for i in ids]).items()}
        column = None
        if labels is not None:
            column = _keep(_label_column(ids, labels), tables)
        return cls._of(NpyFiles, tables, path=path, ids=packed, labels=column)

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
                sources[name] = _absolute(value)
            elif (ragged := ragged_of(name, value)) is not None:
                values, splits = _keep(ragged.values, tables), _keep(ragged.row_splits, tables)
                sources[name] = RaggedRef(values=values, row_splits=splits)
            else:
                sources[name] = _keep(_row_array(f"from_arrays: {name!r}", value), tables)
        return cls._of(Arrays, tables, fields=sources)

    @classmethod
    def from_python(cls, attr: str | Any) -> Dataset:
        """Read your own source: an object with `len()` and `[i]`, or what makes one.

        `source[i]` returns a dict of arrays. It is named by import path, and imported in every worker. One that has no
        import path is sent to the workers of a private daemon, and to no others.
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

    def rescale(self, scale: float, offset: float = 0.0, *, field: str = "image") -> Dataset:
        """Make it value * scale + offset, as float32."""
        return self._then(Rescale, scale=scale, offset=offset, field=field)

    def normalize(
        self, mean: float | Sequence[float], std: float | Sequence[float], *, field: str = "image"
    ) -> Dataset:
        """Make it (value - mean) / std, as float32; one number each, or one for each entry of the last axis."""
        return self._then(Normalize, mean=mean, std=std, field=field)

    def one_hot(self, field: str, classes: int) -> Dataset:
        """Turn class numbers into float32 vectors of length `classes`."""
        return self._then(OneHot, field=field, classes=classes)

    def cast(self, field: str, dtype: str) -> Dataset:
        """Change a field's dtype."""
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
        to: int | Literal["longest"] = "longest",
        *,
        most: int | None = None,
        value: float = 0,
        truncate: bool = False,
        mask: str | None = None,
        lengths: str | None = None,
    ) -> Dataset:
        """Bring rows of different lengths to one length: that of their batch's longest, or always the same.

        Args:
            field: Its first axis is padded, at the end.
            to: "longest", or the number of entries that each row gets.
            most: Entries of the longest row of all, for which room is kept; needed for "longest" where the source
                does not know it.
            value: What is put behind a row's end.
            truncate: Cut off the end of rows that are longer than `to`; otherwise, these are an error.
            mask: Name of a further field, bool (length,): where a row has entries.
            lengths: Name of a further field, int64 (): how many entries a row has.
        """
        further = {"value": value, "mask": mask, "lengths": lengths}
        if to == "longest":
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

    # -- order and batches -----------------------------------------------------------------------------------

    def shuffle(self, seed: int = 0) -> Dataset:
        """Visit samples in a new order each epoch; `seed` sets it, and all that is random in the transforms."""
        return self._replace(shuffle=_checked(Shuffle, seed=seed))

    def batch(self, size: int, remainder: Literal["keep", "drop", "pad"] = "keep") -> Dataset:
        """Put `size` samples into each batch.

        Args:
            remainder: What becomes of an epoch's last samples where they fill no whole batch: "keep" makes a
                short one, "drop" leaves them out, "pad" fills it up with rows of zeros and adds the field
                `weight`, which is 0 for them and 1 for all others.
        """
        return self._replace(batch=_checked(Batch, size=size, remainder=remainder))

    def on_error(self, policy: Literal["raise", "replace"], *, most: float = 0.01) -> Dataset:
        """Say what becomes of a sample that cannot be made: it raises twice, or three workers die over it.

        Args:
            policy: "raise" names it in an error, which is also what is done where nothing is said. "replace" puts
                another sample into its row, always the same one, and remembers that in the ledger of the dataset's key.
            most: Share of the samples that may be replaced, in (0, 1]; one may be in any case. Beyond it, an error.
        """
        said = _checked(OnError, policy=policy, most=most)
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
        """Samples of the source."""
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
        parts = [self.declaration.source, *self.declaration.transforms, *self.declaration.finish]
        steps = [_shown(part.kind, part) for part in parts]
        if self.declaration.shuffle:
            steps.append(f"shuffle(seed={self.declaration.shuffle.seed})")
        if self.declaration.batch:
            steps.append(_shown("batch", self.declaration.batch))
        if self.declaration.on_error:
            steps.append(_shown("on_error", self.declaration.on_error))
        found = f": {self.samples:,} samples, {describe(self.spec)}" if "plan" in vars(self) else ""  # opens nothing
        return f"<Dataset {' -> '.join(steps)}{found}>"

    # -- building --------------------------------------------------------------------------------------------

    @classmethod
    def _of(cls, source: type[Source], tables: Mapping[str, np.ndarray] | None = None, **options: Any) -> Dataset:
        made: Any = _checked(source, **options)
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
        made: Any = _checked(step, **options)
        last = self.declaration.finish[-1:]
        if last and last[0].kind == "map_batch" and made.kind != "map_batch":
            raise DatasetError(f"{made.kind}: say it before map_batch, whose function sees batches as they are then")
        return self._replace(finish=(*self.declaration.finish, made))

    def _then(self, transform: type[Transform], **options: Any) -> Dataset:
        if self.declaration.finish:
            done, kind = self.declaration.finish[-1].kind, transform.model_fields["kind"].default
            raise DatasetError(f"{kind}: it acts on samples, so say it before {done}, which acts on whole batches")
        step: Any = _checked(transform, **options)
        return self._replace(transforms=(*self.declaration.transforms, step))

    def _replace(self, **changes: Any) -> Dataset:
        return replace(self, declaration=self.declaration.model_copy(update=changes))


def _checked(model: type[Model], **options: Any) -> Model:
    try:
        return model(**options)
    except ValidationError as error:
        name = model.model_fields["kind"].default if "kind" in model.model_fields else _method_name(model)
        raise DatasetError(f"{name}: {explain(error)}") from None


def _method_name(model: type[BaseModel]) -> str:
    """Return the method that makes it: "on_error" of OnError."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()


def _shown(name: str, options: BaseModel) -> str:
    """Return a step as it might be written: with all options that are not at their defaults."""
    given = {key: value for key, value in options if key != "kind" and value != type(options).model_fields[key].default}
    return f"{name}({', '.join(f'{key}={_shown_value(value)}' for key, value in given.items())})"


def _shown_value(value: Any) -> str:
    if isinstance(value, TableRef):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, RaggedRef):
        return f"rows of {_shown_value(value.values)}"
    if isinstance(value, UserCode | Carried):
        return repr(value.name)
    if isinstance(value, dict) and value.keys() == {"bytes", "offsets"}:  # packed strings
        return f"{value['offsets'].shape[0] - 1:,} names"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown_value(part)}' for key, part in value.items())}}}"
    return repr(value)


def _absolute(path: PathLike) -> str:
    return str(Path(path).expanduser().absolute())


def _keep(array: np.ndarray, tables: dict[str, np.ndarray]) -> TableRef:
    """Remember an array under its hash, and return the reference that the declaration holds."""
    ref = TableRef.of(array)
    tables[ref.table] = array
    return ref


def _row_array(what: str, value: Any) -> np.ndarray:
    try:
        array = native(value)
    except ValueError as error:
        raise DatasetError(f"{what} cannot be made an array: {error}") from error
    if array.ndim == 0 or array.dtype.kind not in "biufc":
        raise DatasetError(f"{what} is {array.dtype} {array.shape}, expected numbers with one row for each sample")
    return np.ascontiguousarray(array)


def _label_column(ids: Sequence[str] | None, labels: Labels) -> np.ndarray:
    """Return one label for each id, as an array.

    Raises:
        DatasetError: If one is missing, or there are too many or too few.
    """
    if isinstance(labels, Mapping):
        assert ids is not None, "ids were listed before"
        missing = [name for name in ids if name not in labels]
        if missing:
            raise DatasetError(
                f"{len(missing):,} of {len(ids):,} ids have no label: {', '.join(map(repr, missing[:3]))}"
                f"{', ...' if len(missing) > 3 else ''}"
            )
        labels = [labels[name] for name in ids]
    column = _row_array("from_npy_files: labels", labels)
    if ids is not None and len(column) != len(ids):
        raise DatasetError(f"{len(ids):,} ids and {len(column):,} labels: expected one for each")
    return column
