"""A user's own generator: samples in the order in which it yields them, read live.

It cannot be asked for a sample by its number, so it runs in one worker, and what it yields next is the next sample,
whatever number that has. Where it ends, it is begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.collate import native, spec_of
from loader_service.dataset.objects import AnyCode, loaded
from loader_service.dataset.sources.source import Index, ReadTable, Source
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec
from loader_service.protocol.structure import taken_apart


class Generator(Source):
    """A function that returns a generator, or anything else that can be iterated."""

    live: ClassVar[bool] = True

    kind: Literal["generator"] = "generator"
    function: AnyCode
    samples: Annotated[int, Field(ge=1, lt=2**48, description="Of an epoch.")]

    def make_index(self, table: ReadTable) -> Index:
        """There is nothing to list."""
        return {}

    def reader(self, index: Index, table: ReadTable) -> GeneratorReader:
        """Begin, when the first sample is wanted."""
        function = loaded(self.function, table)
        if not callable(function):
            raise DatasetError(f"{self.function.name!r} is {type(function).__name__}, expected a function")
        return GeneratorReader(function, self.function.name, self.samples)

    def user_code(self) -> list[UserCode]:
        """Name the module."""
        return [self.function] if isinstance(self.function, UserCode) else []


class GeneratorReader:
    """The samples of a generator, one after the other."""

    def __init__(self, function: Callable[[], Any], name: str, samples: int) -> None:
        self._name, self._samples = name, samples
        self.columns: frozenset[str] = frozenset()
        self._yielded = _without_end(function, name)
        self._peeked: dict[str, np.ndarray] | None = None  # and not given yet

    def __len__(self) -> int:
        return self._samples

    def model(self, sample_id: int) -> Spec:
        """Take the first sample as the model of all others."""
        return spec_of(self.peek(), self._name)

    def peek(self) -> dict[str, Any]:
        """Return the next sample, which stays the next one."""
        if self._peeked is None:
            self._peeked = self._next()
        return {name: value.copy() for name, value in self._peeked.items()}

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any]:
        """Return the next sample, whatever number it is asked for by."""
        sample, self._peeked = self._peeked or self._next(), None
        return sample

    def _next(self) -> dict[str, np.ndarray]:
        try:
            return next(self._yielded)
        except StopIteration:
            raise DatasetError(f"{self._name} has ended, since it raised an error: open another stream") from None

    def read_column(self, field: str, ids: NDArray[np.int64], out: np.ndarray) -> None:
        """Never called: there are no columns."""
        raise AssertionError(f"a generator has no column {field!r}")

    def describe(self, sample_id: int) -> str:
        """Return what is known of a sample."""
        return f"from {self._name}"


def _without_end(function: Callable[[], Any], name: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield the samples of one generator after the other."""
    while True:
        empty = True
        for sample in function():
            empty = False
            values = sample if isinstance(sample, dict) else taken_apart(sample)[1]
            yield {field: native(value) for field, value in values.items()}
        if empty:
            raise DatasetError(f"{name} has yielded nothing")
