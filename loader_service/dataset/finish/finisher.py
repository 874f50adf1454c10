"""The declared finish of a batch -> what its rows are written to, and how the batch is made of them.

    direct   fields that no step touches: their rows are written where the reader will find them
    stage    all others: rows of one length each, with room for the longest, and lengths beside them

What becomes of rows that differ in length is settled first, then rows are mixed; users' functions see whole arrays.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from loader_service.dataset.collate import TEXT, put, put_part, spec_of
from loader_service.dataset.finish.lengths import RaggedRows
from loader_service.dataset.finish.map_batch import MapBatch
from loader_service.dataset.finish.mixing import Mixing
from loader_service.dataset.finish.step import Finish, Lengths, Room
from loader_service.dataset.purity import doubts, new_nans
from loader_service.dataset.sequences import Sequences
from loader_service.dataset.transforms.map import globals_kept
from loader_service.dataset.transforms.transform import field_of
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.layout import IDS, lengths_of, splits_of
from loader_service.protocol.ragged import Ragged
from loader_service.protocol.spec import FieldSpec, Spec

TEXT_BYTES = 1000  # of one string, where nothing else is said
Key = Callable[[int], int]  # the number of a step -> the key of its random numbers


class Finisher:
    """Makes batches out of their rows."""

    def __init__(
        self, spec: Spec, steps: Sequence[Finish], batch_size: int, model: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Find out what rows are written to, and what batches look like; a user's function is run to find its.

        Args:
            spec: Of a row, before any step.
            batch_size: Rows of a whole batch.
            model: Makes the first sample, which such a function is tried with.
        """
        said = {step.field for step in steps if isinstance(step, Lengths)}
        text = [name for name, field in spec.items() if field.form == TEXT.form and name not in said]
        lengths = [*(step for step in steps if isinstance(step, Lengths)), *map(_as_text, text)]
        self._maps = [step for step in steps if isinstance(step, MapBatch)]
        mixing = [step for step in steps if isinstance(step, Mixing)]
        self._steps: list[Finish] = [*lengths, *mixing, *self._maps]
        self._batch_size = batch_size
        self._model = model() if self._maps else {}  # not its maker, which would keep whoever keeps this
        self.varying = _varying(spec, lengths)
        mixed = {name for step in mixing for name in step.fields}
        self._staged = [name for name in spec if self._maps or name in self.varying or name in mixed]
        self.stage: dict[str, FieldSpec] = {}
        for name in self._staged:
            field = self.varying.get(name, spec[name])
            self.stage[name] = FieldSpec(field.room, field.dtype)
            if name in self.varying:
                self.stage[lengths_of(name)] = FieldSpec((), "int64")
        self.spec = self._declare({**spec, **self.varying})
        for hidden in (name(field) for field in self.varying for name in (lengths_of, splits_of)):
            if hidden in self.spec:
                raise DatasetError(
                    f"a field cannot be named {hidden!r}: rows that differ in length have that. Rename it."
                )

    def run(self, rows: Mapping[str, Any], room: Room, key: Key, position: int, told: str) -> None:
        """Make a batch out of its rows.

        Args:
            rows: What was written to the stage, for all rows of the batch; or `Sequences`, where they are elsewhere.
            room: Hands out room for the arrays of the batch.
            position: Of the first row in its epoch: beside `key`, all that random numbers may depend on.
            told: How an error names the batch.
        Raises:
            SampleError: If a user's function raises.
            SpecMismatch: If it makes something else of this batch than of the first one.
        """
        fields = self._apply(len(self._steps), rows, scratch if self._maps else room, key, position, told)
        if self._maps:
            self._put(fields, room, told)

    def doubts(self, key: Key) -> list[str]:
        """Return what seems wrong with the user's functions, in sentences."""
        found: list[str] = []
        for number, step in enumerate(self._steps):
            if isinstance(step, MapBatch) and not found:
                found += doubts(step.name, partial(self._try, number + 1, key))
                found += new_nans(step.name, partial(self._try, number, key, 0), partial(self._try, number + 1, key, 0))
        return found

    # -- within ----------------------------------------------------------------------------------------------

    def _apply(
        self, steps: int, rows: Mapping[str, Any], room: Room, key: Key, position: int, told: str
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            name: Sequences.on_stage(rows[name], rows[lengths_of(name)])
            if name in self.varying and not isinstance(rows[name], Sequences)
            else rows[name]
            for name in self._staged
        }
        samples = int(np.count_nonzero(rows[IDS] >= 0)) if IDS in rows else None  # of the rows; all, where None
        for number, step in enumerate(self._steps[:steps]):
            try:
                if isinstance(step, Mixing):
                    fields = step.mix(fields, self._room_after(number, room), key(number), position, samples)
                else:
                    fields = step.apply(fields, self._room_after(number, room), key(number), position)
            except Exception as error:
                if not isinstance(step, MapBatch) or isinstance(error, DatasetError):
                    raise
                failed = SampleError(f"{told}, {step.name}: {type(error).__name__}: {error}")
                failed.add_note(traceback.format_exc())
                raise failed from error
        return fields

    def _room_after(self, number: int, room: Room) -> Room:
        """Return what hands out room to a step: of its own, for a field that is mixed again, and not in place."""
        again = {name for step in self._steps[number + 1 :] if isinstance(step, Mixing) for name in step.fields}
        if not again:
            return room
        return lambda name, shape, dtype: (scratch if name in again else room)(name, shape, dtype)

    def _declare(self, spec: dict[str, FieldSpec]) -> dict[str, FieldSpec]:
        for name, field in spec.items():
            if None in field.shape and name not in self.varying:
                raise DatasetError(
                    f"rows of field {name!r} differ in length ({field}): say what a batch makes of them, with "
                    f".pad({name!r}) or .ragged({name!r})"
                )
        self.told: list[tuple[Finish, dict[str, FieldSpec]]] = []  # each step, and what a batch is after it
        for number, step in enumerate(self._steps):
            spec = self._spec_after(number, step, spec) if isinstance(step, MapBatch) else step.declare(spec)
            self.told.append((step, spec))
        return spec

    def _spec_after(self, number: int, step: MapBatch, before: Spec) -> dict[str, FieldSpec]:
        """Return what a user's function makes of batches: of one as long as can be, and of a shorter one."""
        step.load()
        found: list[dict[str, FieldSpec]] = []
        for shorter in (0, 1):
            with globals_kept():
                made = self._try(number + 1, lambda number: number, 0, shorter)
            for name, value in made.items():
                if isinstance(value, Ragged) and before.get(name, TEXT).form == "dense":
                    raise DatasetError(f"{step.name} returned ragged rows in field {name!r}: expected an array")
                if len(value.shape) == 0 or len(value) != self._batch_size:
                    raise DatasetError(
                        f"{step.name} returned {value.shape} in field {name!r} for a batch of {self._batch_size} rows: "
                        "expected one entry for each"
                    )
            arrays = {name: value[0] for name, value in made.items() if not isinstance(value, Ragged)}
            ragged = {name: before[name] for name, value in made.items() if isinstance(value, Ragged)}
            specs = spec_of(arrays, step.name)
            found.append({name: specs.get(name) or ragged[name] for name in made})
        longest, shorter_one = found
        return {name: _common(field, shorter_one.get(name, field)) for name, field in longest.items()}

    def _try(self, steps: int, key: Key, position: int, shorter: int = 0) -> dict[str, Any]:
        """Return what some steps make of a batch that consists of the first sample.

        Args:
            shorter: Entries that are missing from rows as long as they can be.
        """
        model = self._model
        rows = {name: np.zeros((self._batch_size, *field.room), field.dtype) for name, field in self.stage.items()}
        for name in self._staged:
            if name in self.varying:
                put_part(rows[name][0], model[name], name)
                rows[lengths_of(name)][...] = max(1, self.varying[name].room[0] - shorter)
            else:
                put(rows[name][0, ...], model[name], name)
            rows[name][1:] = rows[name][0]
        return self._apply(steps, rows, scratch, key, position, "the first batch")

    def _put(self, fields: dict[str, Any], room: Room, told: str) -> None:
        """Write what users' functions have returned."""
        for name, field in self.spec.items():
            value = fields.get(name)
            array = value.values if isinstance(value, Ragged) else value
            if array is None or not _fits(array, field):
                got = "missing" if array is None else f"{array.dtype} {array.shape[1:]}"
                raise SpecMismatch(f"{told}: field {name!r} is {got}; of the first batch it was {field}")
            if isinstance(value, Ragged):
                room(splits_of(name), value.row_splits.shape, "int64")[...] = value.row_splits
            room(name, array.shape, field.dtype)[...] = array


def scratch(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return room of its own for an array."""
    return np.empty(shape, dtype)


def _as_text(field: str) -> RaggedRows:
    return RaggedRows(kind="text", field=field, most=TEXT_BYTES)


def _varying(spec: Spec, steps: Sequence[Lengths]) -> dict[str, FieldSpec]:
    """Return the fields whose rows differ in length, as they are on the stage."""
    found: dict[str, FieldSpec] = {}
    for step in steps:
        field = field_of(step.kind, spec, step.field)
        if step.field in found:
            raise DatasetError(f"{step.kind}: what becomes of the lengths of {step.field!r} is said twice")
        found[step.field] = step.staged(field)
    return found


def _common(one: FieldSpec, other: FieldSpec) -> FieldSpec:
    """Return the spec of both: an axis of two sizes differs."""
    if one.form != "dense" or len(one.shape) != len(other.shape):
        return one
    differs = [size != twin for size, twin in zip(one.shape, other.shape, strict=True)]
    shape = tuple(None if differ else size for size, differ in zip(one.shape, differs, strict=True))
    most = tuple(size for size, differ in zip(one.room, differs, strict=True) if differ)
    return FieldSpec(shape, one.dtype, most)


def _fits(array: np.ndarray, field: FieldSpec) -> bool:
    shape = field.shape if field.form == "dense" else field.shape[1:]
    return (
        array.ndim == len(shape) + 1
        and all(size in (None, got) for got, size in zip(array.shape[1:], shape, strict=True))
        and np.can_cast(array.dtype, field.dtype, "same_kind")
    )
