"""A callable of albumentations' form, as it is: `image=`, `mask=` in, a dict of the same names out."""

from __future__ import annotations

import random
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.collate import native
from loader_service.dataset.transforms.map import SampleFunction, generator_of, seed_globals, seed_of, writable
from loader_service.dataset.transforms.transform import Sample
from loader_service.protocol.errors import DatasetError


class Albumentations(SampleFunction):
    """Hand fields over by albumentations' names, and take them back.

    Its random numbers are pinned down: a Compose of albumentations 2 is handed generators of this sample's own; those
    of `random` and `numpy.random`, which others draw from, are seeded in any case.
    """

    OFFERED: ClassVar[tuple[str, ...]] = ("image", "mask", "bboxes", "keypoints")  # if a sample has such fields
    kind: Literal["albumentations"] = "albumentations"
    targets: Annotated[
        dict[str, str] | None, Field(description="From what it calls an argument to the field that is meant.")
    ] = None

    @property
    def takes_rng(self) -> bool:
        """Whether it wants a generator of random numbers: each of them is taken to."""
        return True

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Call it on one sample."""
        fields = self._fields(sample)
        given = {name: writable(np.asarray(sample[field])) for name, field in fields.items()}
        seed_globals(key, position)
        self._seed(key, position)
        returned = self._call(**given)
        if not isinstance(returned, dict):
            raise DatasetError(
                f"{self.name} returned {type(returned).__name__}, expected a dict, as albumentations does"
            )
        missing = [name for name in fields if name not in returned]
        if missing:
            raise DatasetError(f"{self.name} returned {list(returned)}: {missing[0]!r} is missing")
        made = {field: _like(native(returned[name]), given[name]) for name, field in fields.items()}
        return {**sample, **made}

    def _fields(self, sample: Sample) -> dict[str, str]:
        fields = self.targets or {name: name for name in self.OFFERED if name in sample}
        for field in fields.values():
            if field not in sample:
                raise DatasetError(f"albumentations: there is no field {field!r}; the sample has {list(sample)}")
        if "image" not in fields:
            raise DatasetError(
                f"albumentations: the sample has {list(sample)}, and none of them is 'image': say which is, as in "
                f"targets={{'image': {next(iter(sample))!r}}}"
            )
        return fields

    def _seed(self, key: int, position: int) -> None:
        seed = seed_of(key, position)
        if hasattr(self._call, "set_random_state"):  # one generator for all that it consists of
            self._call.set_random_state(generator_of(key, position), random.Random(seed))
        elif hasattr(self._call, "set_random_seed"):
            self._call.set_random_seed(seed % 2**32)


def _like(value: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Give a single channel its axis back."""
    return value[:, :, None] if given.ndim == 3 and given.shape[2] == 1 and value.ndim == 2 else value
