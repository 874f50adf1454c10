"""Mixup and CutMix: rows of a batch mixed with one another, when all of them are there.

Who is mixed with whom is a permutation of the batch's samples; how much, each sample draws for itself. Both depend on
(seed, epoch, position) alone. Rows that only fill the last batch up take no part: they stay zeros.

Source: Zhang et al., "mixup", 2017; Yun et al., "CutMix", 2019.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.draws import uniforms
from loader_service.dataset.finish.beta import BETA_DRAWS, symmetric_beta
from loader_service.dataset.finish.step import Finish, Room
from loader_service.dataset.transforms.ranges import Probability
from loader_service.dataset.transforms.transform import Names, field_of, names_of
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

BLENDED = ("uint8", "uint16", "int16", "float32", "float64")  # by OpenCV, which rounds and cuts off what are no floats


class Pairing(NamedTuple):
    """What is drawn for the samples of a batch."""

    partners: list[int]  # with whom each is mixed
    shares: NDArray[np.float64]  # what each is to keep of itself; 1 if it is not mixed
    places: list[list[float]]  # two draws for each


class Mixing(Finish):
    """A step that mixes each row with another one of its batch."""

    alpha: Annotated[float, Field(gt=0, le=1e6, description="Of the distribution Beta(alpha, alpha) of shares.")]
    field: Annotated[Names, Field(description="A field, or several, that are mixed in the same way.")] = "image"
    label: Annotated[Names, Field(description="Labels, one-hot or other floats, which are mixed by share.")] = "label"
    probability: Probability = 1.0

    @property
    def pictures(self) -> tuple[str, ...]:
        """Return the fields that are mixed."""
        return names_of(self.field)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the fields that are mixed by share."""
        return names_of(self.label)

    @property
    def fields(self) -> tuple[str, ...]:
        """Return all fields that are others after it."""
        return (*self.pictures, *self.labels)

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Keep all fields as they are."""
        for name in self.fields:
            found = field_of(self.kind, spec, name)
            if found.form != "dense":
                raise DatasetError(f"{self.kind}: field {name!r} is {found}: rows of one length can be mixed, pad it")
        for name in self.labels:
            found = spec[name]
            if not found.dtype.startswith("float"):
                classes = f".one_hot({name!r}, classes)" if not found.shape else f".cast({name!r}, 'float32')"
                raise DatasetError(
                    f"{self.kind}: field {name!r} is {found}, and class numbers cannot be mixed: expected floats, such "
                    f"as one-hot vectors. Say {classes} before"
                )
        for name in self.pictures:
            self.check(name, spec[name])
        return dict(spec)

    def check(self, name: str, field: FieldSpec) -> None:
        """Refuse a field that cannot be mixed."""
        raise NotImplementedError(f"{type(self).__name__} must check its fields")

    def apply(self, fields: dict[str, Any], room: Room, key: int, position: int) -> dict[str, Any]:
        """Mix all rows of a batch."""
        return self.mix(fields, room, key, position, None)

    def mix(self, fields: dict[str, Any], room: Room, key: int, position: int, samples: int | None) -> dict[str, Any]:
        """Mix the first `samples` rows of a batch, all where None; those behind are padding, and stay as they are."""
        if samples is None:
            samples = len(fields[self.pictures[0]])
        numbers = uniforms(key, np.arange(position, position + samples), BETA_DRAWS + 4)
        partners = np.argsort(numbers[:, 0], kind="stable")
        shares = np.where(numbers[:, 1] < self.probability, symmetric_beta(self.alpha, numbers[:, 4:]), 1.0)
        mixed = dict(fields)
        for name in self.fields:
            mixed[name] = room(name, fields[name].shape, fields[name].dtype)
            mixed[name][samples:] = fields[name][samples:]
        shares = self.blend(fields, mixed, Pairing(partners.tolist(), shares, numbers[:, 2:4].tolist()))
        for name in self.labels:
            old, new = fields[name][:samples], mixed[name]
            share = shares.reshape(-1, *(1,) * (old.ndim - 1)).astype(old.dtype)
            new[:samples] = share * old + (1 - share) * old[partners]
        return mixed

    def blend(self, fields: dict[str, Any], mixed: dict[str, Any], pairing: Pairing) -> NDArray[np.float64]:
        """Write the mixed pictures, and return what share of each is its own.

        Args:
            mixed: Where to write to.
        """
        raise NotImplementedError(f"{type(self).__name__} must blend")


class Mixup(Mixing):
    """share * picture + (1 - share) * other picture; labels likewise."""

    kind: Literal["mixup"] = "mixup"
    alpha: Annotated[float, Field(gt=0, le=1e6, description="Of the distribution Beta(alpha, alpha) of shares.")] = 0.2

    def check(self, name: str, field: FieldSpec) -> None:
        """Take what OpenCV can blend."""
        if field.dtype not in BLENDED:
            raise DatasetError(f"mixup: field {name!r} is {field}, expected one of {BLENDED}: cast it first")

    def blend(self, fields: dict[str, Any], mixed: dict[str, Any], pairing: Pairing) -> NDArray[np.float64]:
        """Blend each row with its partner."""
        for name in self.pictures:
            old, new = fields[name], mixed[name]
            for row, (partner, share) in enumerate(zip(pairing.partners, pairing.shares.tolist(), strict=True)):
                if share == 1 or partner == row or not old[row].size:
                    new[row] = old[row]
                else:
                    own, other, out = (each.reshape(1, -1) for each in (old[row], old[partner], new[row]))
                    cv2.addWeighted(own, share, other, 1 - share, 0, dst=out)
        return pairing.shares


class CutMix(Mixing):
    """A box of each picture is taken from another one; labels are mixed by area."""

    kind: Literal["cutmix"] = "cutmix"
    alpha: Annotated[float, Field(gt=0, le=1e6, description="Of the distribution Beta(alpha, alpha) of shares.")] = 1.0

    def check(self, name: str, field: FieldSpec) -> None:
        """Take pictures, or masks, of any dtype."""
        if len(field.shape) != 3 or field.varies:
            raise DatasetError(f"cutmix: field {name!r} is {field}, expected a picture (height, width, channels)")

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Keep all fields as they are: pictures of one size."""
        declared = super().declare(spec)
        sizes = {spec[name].shape[:2] for name in self.pictures}
        if len(sizes) > 1:
            told = ", ".join(f"{name!r} {spec[name].shape}" for name in self.pictures)
            raise DatasetError(f"cutmix: fields are of different sizes, {told}: one box is cut out of all of them")
        return declared

    def blend(self, fields: dict[str, Any], mixed: dict[str, Any], pairing: Pairing) -> NDArray[np.float64]:
        """Put a box of its partner into each row."""
        height, width = fields[self.pictures[0]].shape[1:3]
        kept = pairing.shares.copy()
        for row, (partner, share, place) in enumerate(
            zip(pairing.partners, pairing.shares.tolist(), pairing.places, strict=True)
        ):
            top, bottom, left, right = _box(height, width, 1 - share, place)
            kept[row] = 1 - (bottom - top) * (right - left) / max(1, height * width)
            for name in self.pictures:
                old, new = fields[name], mixed[name]
                new[row] = old[row]
                new[row, top:bottom, left:right] = old[partner, top:bottom, left:right]
        return kept


def _box(height: int, width: int, area: float, place: list[float]) -> tuple[int, int, int, int]:
    """Return the rows and columns of a box of a share of the area, centred anywhere, cut off at the edges."""
    side = math.sqrt(area)
    tall, wide = side * height / 2, side * width / 2
    down, right = place[0] * height, place[1] * width
    top, bottom = max(0, round(down - tall)), min(height, round(down + tall))
    left, end = max(0, round(right - wide)), min(width, round(right + wide))
    return top, max(top, bottom), left, max(left, end)
