"""What `stats` puts behind all other transforms: a sample becomes what is to be known of it, in the worker.

So a batch is some numbers a sample, however large the pictures are, and whatever their sizes. A new field is named
for what it holds, the dtype and the name of the field that it is about:

    "value int64 label"        the number itself
    "channels uint8 image"     float64 (7, channels): a moments row, one column for each entry of the last axis
    "whole float32 x"          float64 (7, 1): a moments row of all entries together
    "shape uint8 image"        int64 (axes,): stands beside the last two; alone, of what has no moments
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from loader_service.dataset.statistics.moments import KINDS, ROWS, moments_of
from loader_service.dataset.transforms.transform import Sample, SampleTransform
from loader_service.protocol.errors import DatasetError, SpecMismatch, nearest
from loader_service.protocol.spec import BFLOAT16, FieldSpec, Spec

OWN_LENGTHS = "entries that are no padding: "  # begins the names of fields that are there for nothing else


class Moments(SampleTransform):
    """Replace each field by count, mean, spread, range and shape of its entries."""

    kind: Literal["moments"] = "moments"
    fields: Annotated[tuple[str, ...] | None, Field(description="These fields alone; all, if not said.")] = None
    channels: Annotated[
        tuple[str, ...], Field(description="Fields of one axis, each of whose entries has a mean of its own.")
    ] = ()
    padded: dict[str, str] = Field(
        default_factory=dict, description="From a field to the one that tells how many of its entries are no padding."
    )
    _known: dict[str, FieldSpec] = PrivateAttr(default_factory=dict)  # what it was declared for

    def declare(self, spec: Spec) -> Spec:
        """Name what there will be.

        Raises:
            DatasetError: If a field that is named is not there, or holds no real numbers.
        """
        for name in (*(self.fields or ()), *self.channels):
            if name not in spec:
                raise DatasetError(f"stats: there is no field {name!r}; {nearest(name, spec)}")
        names = [name for name in spec if not name.startswith(OWN_LENGTHS)] if self.fields is None else self.fields
        self._known = {name: spec[name] for name in names}
        declared: dict[str, FieldSpec] = {}
        for name, field in self._known.items():
            what = self._what(name, field)
            if what == "shape" and self.fields is not None:
                raise DatasetError(f"stats: field {name!r} is {_told(field)}, expected real numbers: leave it out")
            if what == "value":
                declared[_named("value", name, field)] = field
                continue
            declared[_named("shape", name, field)] = FieldSpec((len(field.shape),), "int64")
            if what == "channels" and field.shape[-1] is None:
                raise DatasetError(f"stats: field {name!r} is {field}, whose last axis differs: it has no channels")
            if what != "shape":
                columns = field.room[-1] if what == "channels" else 1
                declared[_named(what, name, field)] = FieldSpec((ROWS, columns), "float64")
        return declared

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Find out all that is to be known of one sample."""
        made: dict[str, Any] = {}
        for name, field in self._known.items():
            if name not in sample:
                raise SpecMismatch(f"field {name!r} is missing; the sample has {list(sample)}")
            what, value = self._what(name, field), np.asarray(sample[name])
            if value.dtype.kind in "US":
                made[_named("shape", name, field)] = np.asarray([len(str(value.item()))], np.int64)
                continue
            if value.ndim != len(field.shape):
                raise SpecMismatch(f"field {name!r} is {value.dtype} {value.shape}, declared {field}")
            if self.padded.get(name) in sample:
                value = value[: int(sample[self.padded[name]])]
            if what == "value":
                made[_named("value", name, field)] = value
                continue
            made[_named("shape", name, field)] = np.asarray(value.shape, np.int64)
            if what == "channels" and value.shape[-1] != field.room[-1]:
                raise SpecMismatch(
                    f"field {name!r} has {value.shape[-1]} channels, the first sample has {field.room[-1]}: "
                    "let a transform make them alike"
                )
            if what != "shape":
                made[_named(what, name, field)] = moments_of(value, value.shape[-1] if what == "channels" else 1)
        return made

    def _what(self, name: str, field: FieldSpec) -> str:
        """Return what of a field is kept."""
        if field.form == "text" or not is_numeric(np.dtype(field.dtype)):
            return "shape"
        if not field.shape:
            return "value"
        return "channels" if has_channels(name, field, self.channels) else "whole"


def has_channels(name: str, field: FieldSpec, channels: tuple[str, ...]) -> bool:
    """Whether each entry of a field's last axis has a mean of its own."""
    return len(field.shape) > 1 or (bool(field.shape) and name in channels)


def is_numeric(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype have a mean and an order."""
    return dtype.kind in KINDS or dtype.name == BFLOAT16


def parted(name: str) -> tuple[str, str, str]:
    """Return what a field of a sample's moments holds, and the dtype and name of the field that it is about.

    >>> parted("channels uint8 left picture")
    ('channels', 'uint8', 'left picture')
    """
    what, dtype, field = name.split(" ", 2)
    return what, dtype, field


def _named(what: str, name: str, field: FieldSpec) -> str:
    return f"{what} {'text' if field.form == 'text' else field.dtype} {name}"


def _told(field: FieldSpec) -> str:
    return "text" if field.form == "text" else str(field)
