"""Rows of different lengths brought to one length, sample by sample. See finish/ for what depends on the batch."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.collate import encoded
from loader_service.dataset.transforms.transform import Sample, SampleTransform, field_of
from loader_service.protocol.errors import DatasetError, SpecMismatch
from loader_service.protocol.spec import FieldSpec, Spec


class PadTo(SampleTransform):
    """Pad the first axis of a field to a given length; cut off what is longer, or refuse it."""

    kind: Literal["pad_to"] = "pad_to"
    field: str
    length: Annotated[int, Field(ge=1, lt=2**31, description="Entries of each row.")]
    value: float = Field(0, description="What stands behind a row's end.")
    truncate: bool = Field(False, description="Cut off the end of what is longer; otherwise it is an error.")
    mask: str | None = Field(None, description="A further field, bool (length,): where a row has entries.")
    lengths: str | None = Field(None, description="A further field, int64: how many entries a row has.")

    def declare(self, spec: Spec) -> Spec:
        """Have one length, and further fields for what is no padding."""
        field = field_of("pad", spec, self.field)
        if not field.shape:
            raise DatasetError(f"pad: field {self.field!r} is {field}, which has no length")
        further = {self.mask: FieldSpec((self.length,), "bool"), self.lengths: FieldSpec((), "int64")}
        for name in further:
            if name in spec:
                raise DatasetError(f"pad: there is a field {name!r} already: give the mask or lengths another name")
        padded = FieldSpec((self.length, *field.shape[1:]), field.dtype)
        return {**spec, self.field: padded, **{name: made for name, made in further.items() if name is not None}}

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Pad one sample."""
        value = encoded(sample[self.field])
        length = len(value)
        if length > self.length:
            if not self.truncate:
                raise SpecMismatch(
                    f"field {self.field!r} has {length:,} entries, and is to be padded to {self.length:,}: "
                    "say truncate=True to cut its end off, or a larger length"
                )
            value, length = value[: self.length], self.length
        padded = np.full((self.length, *value.shape[1:]), self.value, value.dtype)
        padded[:length] = value
        made = {**sample, self.field: padded}
        if self.mask is not None:
            made[self.mask] = np.arange(self.length) < length
        if self.lengths is not None:
            made[self.lengths] = np.int64(length)
        return made
