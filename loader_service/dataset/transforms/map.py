"""A user's own function as a transform: a dict of arrays in, a dict of arrays out.

Its random numbers are pinned down before each call, so that a row that is made again is the same row: NumPy's and
Python's global generators are seeded, and a function that names an argument `rng` is handed a generator of its own.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, PrivateAttr

from loader_service.dataset.collate import native, spec_of
from loader_service.dataset.objects import AnyCode, loaded
from loader_service.dataset.sources.source import ReadTable
from loader_service.dataset.transforms.transform import Sample, SampleTransform
from loader_service.protocol.errors import DatasetError, SpecMismatch
from loader_service.protocol.nesting import flat, nested
from loader_service.protocol.ragged import Ragged
from loader_service.protocol.spec import Spec


class UserFunction(BaseModel):
    """A function of the user's that is called with pinned random numbers."""

    kind: str
    function: AnyCode
    _table: ReadTable | None = PrivateAttr(None)

    def bind(self, table: ReadTable) -> None:
        """Find the function in `table`, if it travels by its bytes."""
        self._table = table

    @cached_property
    def _call(self) -> Any:
        assert self._table is not None, "a plan binds its steps before it runs them"
        function = loaded(self.function, self._table)
        if not callable(function):
            raise DatasetError(f"{self.name} is {type(function).__name__}, expected a function")
        return function

    @property
    def takes_rng(self) -> bool:
        """Whether it wants a generator of random numbers."""
        return self._takes_rng

    @cached_property
    def _takes_rng(self) -> bool:
        try:
            return "rng" in inspect.signature(self._call).parameters
        except ValueError:  # a builtin without a signature
            return False

    @property
    def name(self) -> str:
        """What users call it."""
        return f"{self.kind}: {self.function.name!r}"

    def load(self) -> None:
        """Import the function before there is a sample to blame."""
        self._call  # noqa: B018 - it is cached

    def call(self, fields: dict[str, Any], key: int, position: int, rng: Any = None) -> dict[str, Any]:
        """Call the function on a dict of arrays; `key` and `position` are all that random numbers depend on.

        Fields of a group are handed over, and taken back, in a dict within.

        Args:
            rng: What it is handed if it names an argument `rng`; where None, a generator of NumPy's.
        """
        given = nested(fields)
        seed_globals(key, position)
        if self._takes_rng:
            returned = self._call(given, rng=generator_of(key, position) if rng is None else rng)
        else:
            returned = self._call(given)
        if not isinstance(returned, dict) or not returned:
            raise DatasetError(f"{self.name} returned {type(returned).__name__}, expected a dict of arrays")
        return {name: value if isinstance(value, Ragged) else native(value) for name, value in flat(returned).items()}

    def spec_of(self, returned: Mapping[str, Any]) -> Spec:
        """Return the spec of what the function returned."""
        return spec_of(returned, self.name)


_dtype = cache(np.dtype)  # of a name: comparing with names takes a microsecond


class SampleFunction(UserFunction, SampleTransform):
    """A user's function as a transform."""

    def declare(self, spec: Spec) -> Spec:
        """Refuse: what a user's function returns is found by running it (chain.py)."""
        raise DatasetError(f"{self.kind}: the spec is known only from a first sample")

    def refuse_others(self, returned: Mapping[str, Any], spec: Spec) -> None:
        """See to it that all samples come back with the fields and dtypes of the first one.

        Raises:
            SpecMismatch: If one does not; steps that follow would make something else of it.
        """
        for name, field in spec.items():
            if name not in returned:
                raise SpecMismatch(f"{self.name} returned no field {name!r}, and did of the first sample")
            dtype, first = np.asarray(returned[name]).dtype, _dtype(field.dtype)
            if dtype != first and field.form == "dense" and not np.can_cast(dtype, first, "safe"):
                raise SpecMismatch(
                    f"{self.name} returned {dtype} in field {name!r}, and {field.dtype} of the first sample: let it "
                    f"return one dtype, for example with .astype({field.dtype!r})"
                )


class Map(SampleFunction):
    """Call a function on every sample."""

    kind: Literal["map"] = "map"

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Call the function on one sample."""
        return self.call({name: writable(value) for name, value in sample.items()}, key, position)


def writable(value: Any) -> Any:
    """Copy a view of what all samples are read from: a function may change in place what it is given."""
    return value.copy() if isinstance(value, np.ndarray) and not value.flags.writeable else value


def generator_of(key: int, position: int) -> np.random.Generator:
    """Return a generator of one sample's own."""
    return np.random.Generator(np.random.Philox(key=[key, position]))


def seed_of(key: int, position: int) -> int:
    """Return the 64 bits that generators of one sample are seeded with."""
    return (key + position * 0x9E3779B97F4A7C15) % 2**64


def seed_globals(key: int, position: int) -> None:
    """Seed Python's and NumPy's global generators for one sample.

    Both are Mersenne twisters, of 624 numbers. NumPy's takes one seed of 32 bits in a fifth of the time of several,
    and another way than Python's, so that the two are no twins.
    """
    seed = seed_of(key, position)
    random.seed(seed)
    np.random.seed((seed ^ seed >> 32) & 0xFFFFFFFF)


@contextmanager
def globals_kept() -> Iterator[None]:
    """Give Python's and NumPy's global generators back as they were: `compute` runs in the trainer's own process."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
