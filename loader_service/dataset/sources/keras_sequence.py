"""A user's `keras.utils.PyDataset`, or anything like it: `len(object)` batches an epoch, `object[i]` returns one.

What its batches look like is found out once, by whoever opens it first: some are made, and one of them twice, each time
from a pristine object. If that one is another each time, the object is *live*.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from loader_service.dataset.collate import native
from loader_service.dataset.draws import stream_key
from loader_service.dataset.naming import Naming
from loader_service.dataset.objects import AnyCode, Carried, digest_of, pack, unpack
from loader_service.dataset.purity import same
from loader_service.dataset.replay import Replayed, length_of, seed_all
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.dataset.transforms.map import globals_kept
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError, SpecMismatch
from loader_service.protocol.spec import FieldSpec
from loader_service.protocol.structure import Structure, taken_apart

SPARE = 2  # times the largest of the sizes that differ: a batch within that lies in its slot, a larger one beyond
LOOKS = "looks"  # the index's entries: `Looks` as JSON,
STATE = "state"  # and the hash of the object as the first epoch begins; none, if it cannot be pickled

IMPURE = (
    "{name} makes another batch each time that it is asked for the same one, so it is read live: by one worker, from "
    "front to back. Lost are all workers but one, resuming, sharing, and the same batches again for the same seed. To "
    "mend it, draw random numbers from `random`, from `numpy.random`, or from a generator in an attribute of the "
    "object: these are seeded before each batch. One that is made anew for each batch, or lies in a module, is not"
)


class KerasSequence(Source):
    """An object, or a class or function that makes one when it is called without arguments."""

    whole: ClassVar[bool] = True

    kind: Literal["keras"] = "keras"
    attr: AnyCode
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Of all that is random in it.")] = 0

    def make_index(self, table: ReadTable) -> Index:
        """Find out what its batches look like, and whether they are the same when they are made again."""
        with globals_kept():
            make = self._maker(table)
            one, other = Replayed(make, self.seed), Replayed(make, self.seed)
            try:
                state = digest_of(other.at(0))
            except Exception:  # it has open files, or the like: the code alone tells what it is
                state = ""
            looks = look_at(one, other, self.attr.name)
            if looks.live:
                state = ""  # it may be another one each time
        encoded = looks.model_dump_json().encode()
        return {LOOKS: np.frombuffer(encoded, np.uint8), STATE: np.frombuffer(state.encode(), np.uint8)}

    def batches(self, index: Index, table: ReadTable) -> KerasBatches:
        """Open it in this process."""
        looks = Looks.model_validate_json(index[LOOKS].tobytes())
        return KerasBatches(Replayed(self._maker(table), self.seed), looks, self.attr.name)

    def user_code(self) -> list[UserCode]:
        """Name the module."""
        return [self.attr] if isinstance(self.attr, UserCode) else []

    def _maker(self, table: ReadTable) -> Callable[[], Any]:
        """Return a function that makes a pristine object each time that it is called."""
        if isinstance(self.attr, Carried):
            carried = self.attr
            carried.check(table(carried.carried))
            return lambda: carried.load(table(carried.carried, private=True))
        seed_all(None, stream_key("imported", self.seed))
        found: Any = self.attr.load()
        if isinstance(found, type) or not hasattr(found, "__getitem__"):
            if not callable(found):
                raise DatasetError(f"{self.attr.name!r} is {type(found).__name__}, expected len() and [i]")
            return found  # type: ignore[no-any-return]
        try:
            packed = pack(found)
        except Exception as error:
            raise DatasetError(
                f"{self.attr.name!r} cannot be copied, as is done for epochs: {error}. Name a function that makes it"
            ) from error
        return lambda: unpack(packed.copy())


class Looks(BaseModel):
    """What was found out of an object."""

    model_config = ConfigDict(frozen=True)

    length: int  # batches of an epoch
    rows: int  # that there is to be room for
    structure: Any
    spec: dict[str, FieldSpec]
    live: bool


class KerasBatches:
    """Makes any batch of any epoch, as named arrays, in one process."""

    def __init__(self, replayed: Replayed, looks: Looks, name: str) -> None:
        self.looks = looks
        self._replayed, self._name = replayed, name

    def make(self, epoch: int, number: int) -> dict[str, np.ndarray]:
        """Return the arrays of one batch, by the names of their fields.

        Raises:
            SpecMismatch: If it does not look like those that were looked at.
        """
        length = length_of(self._replayed.at(epoch), self._name)
        if length != self.looks.length:
            raise DatasetError(
                f"{self._name} has {length:,} batches in epoch {epoch}, and had {self.looks.length:,} in the first "
                "one: expected as many in each"
            )
        structure, arrays = batch_of(self._replayed, epoch, number)
        if structure != self.looks.structure:
            raise SpecMismatch(f"it consists of {list(arrays)}, and other batches of {list(self.looks.spec)}")
        for name, array in arrays.items():
            check(name, array, self.looks.spec[name])
        return arrays

    def describe(self, number: int) -> str:
        """Return how a batch is named in Python."""
        return item_of(self._name, number)

    def doubts(self) -> list[str]:
        """Return what is wrong with the user's code, in sentences."""
        return [IMPURE.format(name=self._name)] if self.looks.live else []


def look_at(one: Replayed, other: Replayed, name: str) -> Looks:
    """Find out what the batches of an object look like, given two of it that are equal.

    Raises:
        DatasetError: If it is empty, or its batches are nothing that Keras could take; what it raises itself.
    """
    length = length_of(one.at(0), name)
    made: dict[int, tuple[Structure, dict[str, np.ndarray]]] = {}
    failures: dict[int, Exception] = {}
    for number in sorted({0, min(1, length - 1), length - 1}):  # the last one is often shorter
        try:
            made[number] = batch_of(one, 0, number)
        except Exception as error:  # whoever wants that batch will be told
            failures[number] = error
    for number, failure in failures.items() if not made else ():
        with Naming(partial(item_of, name), number):
            raise failure
    first, (structure, arrays) = next(iter(made.items()))
    again, twins = batch_of(other, 0, first)
    others = [found for kind, found in made.values() if kind == structure]
    spec = {field: common([found[field] for found in others], field) for field in arrays}
    lengths = [max(map(len, found.values())) for found in others]
    rows = max(lengths) * (SPARE if len(set(lengths[:-1])) > 1 or lengths[-1] > lengths[0] else 1)
    live = again != structure or not same(arrays, twins)
    return Looks(length=length, rows=rows, structure=structure, spec=spec, live=live)


def item_of(name: str, number: int) -> str:
    """Return how a batch is named in Python."""
    return f"{name}[{number}]"


def batch_of(replayed: Replayed, epoch: int, number: int) -> tuple[Structure, dict[str, np.ndarray]]:
    """Return the structure of a batch, and its arrays.

    Raises:
        DatasetError: If it is nothing that Keras could take.
    """
    structure, values = taken_apart(replayed.item(epoch, number))
    arrays = {name: native(value) for name, value in values.items()}
    for name, array in arrays.items():
        if array.ndim == 0 and array.dtype != object:
            raise DatasetError(f"{name!r} in it is {values[name]!r}, expected an array with one row for each sample")
    return structure, arrays


def common(arrays: list[np.ndarray], name: str) -> FieldSpec:
    """Return what arrays have in common, apart from their first axis: an axis of several sizes differs.

    Raises:
        DatasetError: If they hold anything but numbers.
    """
    try:
        field = FieldSpec.like(arrays[0].shape[1:], arrays[0].dtype)
    except DatasetError as error:
        raise DatasetError(f"{name!r} in it: {error}") from None
    shapes = {array.shape[1:] for array in arrays if array.ndim == arrays[0].ndim}
    sizes = [set(axis) for axis in zip(*shapes, strict=True)]
    shape = tuple(None if len(axis) > 1 else min(axis) for axis in sizes)
    return FieldSpec(shape, field.dtype, most=tuple(SPARE * max(axis) for axis in sizes if len(axis) > 1))


def check(name: str, array: np.ndarray, field: FieldSpec) -> None:
    """See to it that an array of a batch is like those that were looked at.

    Raises:
        SpecMismatch: If it is not.
    """
    shape = array.shape[1:]
    fits = len(shape) == len(field.shape) and all(
        wanted in (None, size) for size, wanted in zip(shape, field.shape, strict=True)
    )
    if not fits:
        raise SpecMismatch(
            f"{name!r} is {array.dtype} {array.shape}, and other batches have {(None, *field.shape)}: None stands for "
            "sizes that differ, as those of the first two batches and of the last one do"
        )
    if array.dtype != field.dtype and not np.can_cast(array.dtype, field.dtype, "safe"):
        raise SpecMismatch(f"{name!r} is {array.dtype}, and of other batches {field.dtype}: make all of one dtype")
