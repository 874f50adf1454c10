"""The numbers of an epoch's samples -> the ids that these samples have at their source.

    position --order.py--> number, 0 .. size - 1 --selection--> id --replacing.py--> id of a sample that can be made

A selection is a pure function of (seed, epoch, number), in O(1) memory or with one table, which stands in the index.
Most say the same in every epoch. Those that *draw* do not: their numbers have no order of their own, and are shuffled
whether or not the dataset is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.order import ShuffledOrder

Numbers = NDArray[np.int64]


class Selection(ABC):
    """Some of the samples of a source, in some order."""

    size: int  # samples of an epoch

    @property
    def draws(self) -> bool:
        """Whether each epoch has its own samples."""
        return False

    @property
    def pool(self) -> Selection:
        """All samples that there may be in any epoch, each of them once."""
        return self

    @abstractmethod
    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Return the ids of samples, given their numbers (each in 0 .. size - 1) and epochs, all of the same shape."""

    def fixed_ids(self, numbers: Numbers) -> Numbers:
        """Return ids that are the same in every epoch."""
        assert not self.draws, "draws belong to an epoch"
        return self.ids(numbers, np.zeros_like(numbers))


class Everything(Selection):
    """All samples of a source, in its own order."""

    def __init__(self, size: int) -> None:
        self.size = size

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Return the numbers."""
        return numbers


class Run(Selection):
    """The samples from some number on."""

    def __init__(self, inner: Selection, start: int, size: int) -> None:
        self.size = size
        self._inner, self._start = inner, start

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Count from the start of the run."""
        return self._inner.ids(numbers + self._start, epochs)


class Listed(Selection):
    """The samples whose numbers stand in a table."""

    def __init__(self, inner: Selection, table: Numbers) -> None:
        self.size = len(table)
        self._inner, self._table = inner, table

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Look the numbers up."""
        return self._inner.ids(self._table[numbers], epochs)


class Permuted(Selection):
    """All samples, in an order that a key sets, the same one in every epoch."""

    def __init__(self, inner: Selection, key: int) -> None:
        self.size = inner.size
        self._inner, self._order = inner, ShuffledOrder(inner.size, key, epoch=0)

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Permute the numbers."""
        return self._inner.ids(self._order.ids(numbers), epochs)


class Concatenated(Selection):
    """The samples of one source, then those of the next. The ids of each begin where those of the one before end."""

    def __init__(self, parts: Sequence[Selection], starts: Sequence[int]) -> None:
        """Put selections together.

        Args:
            starts: The first id of each part's source.
        """
        self._parts, self._starts = parts, starts
        self._ends = np.cumsum([part.size for part in parts])
        self.size = int(self._ends[-1])

    @property
    def draws(self) -> bool:
        """Whether a part does."""
        return any(part.draws for part in self._parts)

    @property
    def pool(self) -> Selection:
        """The pools of the parts."""
        return Concatenated([part.pool for part in self._parts], self._starts) if self.draws else self

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Ask each part for its own."""
        owners = np.searchsorted(self._ends, numbers, side="right")
        ids = np.empty_like(numbers)
        for owner in np.unique(owners).tolist():
            own, part = owners == owner, self._parts[owner]
            first = int(self._ends[owner]) - part.size
            ids[own] = self._starts[owner] + part.ids(numbers[own] - first, epochs[own])
        return ids
