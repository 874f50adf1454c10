"""Rows of different lengths in one batch: padded to its longest, or ragged; text is ragged bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.finish.step import Lengths, Room
from loader_service.dataset.sequences import Sequences
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import splits_of
from loader_service.protocol.ragged import FORMS
from loader_service.protocol.spec import FieldSpec, Spec

Most = Annotated[int, Field(ge=1, lt=2**31)]


class PadLongest(Lengths):
    """Rows are padded to the longest of their batch; or to the next of some given lengths."""

    kind: Literal["pad"] = "pad"
    most: Most | None = Field(None, description="Entries of the longest row.")
    value: float = Field(0, description="What stands behind a row's end.")
    mask: str | None = Field(None, description="A further field, bool (length,): where a row has entries.")
    lengths: str | None = Field(None, description="A further field, int64: how many entries a row has.")
    boundaries: tuple[Most, ...] = Field((), description="Lengths, one of which each batch gets: the next one.")

    def staged(self, field: FieldSpec) -> FieldSpec:
        """Have room for the boundary that the longest row is padded to."""
        staged = super().staged(field)
        return replace(staged, most=(self.length_of(staged.most[0]),))

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Become one array, with further fields for what is no padding."""
        declared = dict(spec)
        further = {self.mask: FieldSpec((None,), "bool", spec[self.field].most), self.lengths: FieldSpec((), "int64")}
        for name, field in further.items():
            if name is None:
                continue
            if name in declared:
                raise DatasetError(f"pad: there is a field {name!r} already: give the mask or lengths another name")
            declared[name] = field
        return declared

    def apply(self, fields: dict[str, Any], room: Room, key: int, position: int) -> dict[str, Any]:
        """Pad all rows of a batch."""
        rows: Sequences = fields[self.field]
        lengths = rows.lengths
        longest = self.length_of(int(lengths.max(initial=0)))
        padded = room(self.field, (len(rows), longest, *rows.entries.shape[1:]), rows.entries.dtype)
        rows.pad(padded, self.value)
        made = {**fields, self.field: padded}
        if self.mask is not None:
            made[self.mask] = room(self.mask, (len(rows), longest), "bool")
            np.less(np.arange(longest), lengths[:, None], out=made[self.mask])
        if self.lengths is not None:
            made[self.lengths] = room(self.lengths, (len(rows),), "int64")
            made[self.lengths][...] = lengths
        return made

    def length_of(self, longest: int) -> int:
        """Return the length of a batch whose longest row this is."""
        return next((length for length in self.boundaries if longest <= length), longest)


class RaggedRows(Lengths):
    """The entries of all rows come one after the other."""

    kind: Literal["ragged", "text"] = "ragged"
    most: Most | None = Field(None, description="Entries of the longest row; bytes, of text.")

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Become two arrays."""
        field = spec[self.field]
        return {**spec, self.field: FieldSpec(field.shape, field.dtype, field.most, self.kind)}

    def apply(self, fields: dict[str, Any], room: Room, key: int, position: int) -> dict[str, Any]:
        """Put all rows of a batch one after the other."""
        rows: Sequences = fields[self.field]
        splits = room(splits_of(self.field), (len(rows) + 1,), "int64")
        splits[0] = 0
        np.cumsum(rows.lengths, out=splits[1:])
        values = room(self.field, (int(splits[-1]), *rows.entries.shape[1:]), rows.entries.dtype)
        rows.write(values, splits[:-1])
        return {**fields, self.field: FORMS[self.kind](values, splits)}
