"""Cut a patch out: the same one of several fields, such as a volume and its mask."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.draws import row_of_uniforms
from loader_service.dataset.transforms.transform import Names, Pixels, Sample, SampleTransform, field_of, names_of
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec


class _Patch(SampleTransform):
    """Cut `size` out of the first axes; the others stay whole, such as channels."""

    size: Annotated[tuple[Pixels, ...], Field(min_length=1, description="Along each of the first axes.")]
    field: Annotated[Names, Field(description="A field, or a list of those that are cut at one place.")] = "image"

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields that are cut."""
        return names_of(self.field)

    def declare(self, spec: Spec) -> Spec:
        """Replace the first axes of each field; whether a patch fits is seen sample by sample: they may differ."""
        changed: dict[str, FieldSpec] = {}
        for name in self.fields:
            found = field_of(self.kind, spec, name)
            if len(found.shape) < len(self.size):
                raise DatasetError(
                    f"{self.kind}: field {name!r} is {found}, expected at least {len(self.size)} axes for a patch "
                    f"of {self.size}"
                )
            cut, whole = found.shape[: len(self.size)], found.shape[len(self.size) :]
            changed[name] = FieldSpec((*self.size, *whole), found.dtype, found.most[cut.count(None) :])
        return {**spec, **changed}

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Cut views out of the fields of one sample."""
        axes = len(self.size)
        first, *others = self.fields
        extent = np.shape(sample[first])[:axes]
        for name in others:
            if np.shape(sample[name])[:axes] != extent:
                raise DatasetError(
                    f"{self.kind}: field {name!r} is {np.shape(sample[name])[:axes]} and field {first!r} {extent} "
                    "along the axes that are cut: expected alike"
                )
        if any(have < want for have, want in zip(extent, self.size, strict=True)):
            raise DatasetError(
                f"{self.kind}: field {first!r} is {extent}, smaller than a patch of {self.size}: make the patch smaller"
            )
        corner = self.corner([have - want for have, want in zip(extent, self.size, strict=True)], key, position)
        box = tuple(slice(start, start + want) for start, want in zip(corner, self.size, strict=True))
        return {**sample, **{name: sample[name][box] for name in self.fields}}

    def corner(self, spare: list[int], key: int, position: int) -> list[int]:
        """Return where the patch begins along each axis, of which so much is left over."""
        raise NotImplementedError(f"{type(self).__name__} must choose a place")


class RandomPatch(_Patch):
    """Cut it out of anywhere, every place alike."""

    kind: Literal["random_patch"] = "random_patch"

    @property
    def is_random(self) -> bool:
        """It draws the place."""
        return True

    def corner(self, spare: list[int], key: int, position: int) -> list[int]:
        """Draw a place."""
        draws = row_of_uniforms(key, position, len(spare))
        return [int(draw * (left + 1)) for draw, left in zip(draws, spare, strict=True)]


class CenterPatch(_Patch):
    """Cut it out of the middle."""

    kind: Literal["center_patch"] = "center_patch"

    def corner(self, spare: list[int], key: int, position: int) -> list[int]:
        """Leave as much over on either side."""
        return [left // 2 for left in spare]
