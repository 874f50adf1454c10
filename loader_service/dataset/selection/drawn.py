"""Selections that draw: which sample a number stands for is another one in each epoch, and some come more than once.

Two of them draw in turns, from classes or from parts. Each of these is read through in a shuffled order, and when it
has run out, in the next one; so none of its samples comes again before all of them have come, however long the run.
What counts is how often its turn has come since the run began, which is arithmetic: nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from loader_service.dataset.draws import mix, stream_key, uniforms
from loader_service.dataset.order import shuffled
from loader_service.dataset.selection.candidates import Candidates
from loader_service.dataset.selection.selection import Concatenated, Listed, Numbers, Selection
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.sources.arrays import open_rows
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.tables import TableRef

DrawsOfEpoch = Annotated[
    int | None, Field(ge=1, lt=2**48, description="Draws of an epoch; as many as there are samples, if not said.")
]


def in_turn(turns: Numbers, groups: Numbers, sizes: Numbers, key: int) -> tuple[Numbers, Numbers]:
    """Return which sample of its group each turn gets, and how often the group was read through before.

    Args:
        turns: How often the turn of the group had come before.
        groups: The numbers of the groups.
        sizes: How many samples they have.
        key: Names the order of all of them.
    """
    passes, places = np.divmod(turns, sizes)
    keys = mix(passes.astype(np.uint64), mix(groups.astype(np.uint64), key))
    return shuffled(places, sizes, keys), passes


class BalancedDraws(Selection):
    """Classes in turn, as often as one another in the whole run, and but for one draw in any part of it."""

    def __init__(self, inner: Selection, members: Numbers, bounds: Numbers, size: int, seed: int) -> None:
        """Draw from classes.

        Args:
            members: The samples of the first class, of the next, and so on.
            bounds: Where each class begins in `members`, and where the last one ends.
        """
        self.size = size
        self._inner, self._members, self._bounds = inner, members, bounds
        self._key = stream_key("balanced", seed)

    @property
    def draws(self) -> bool:
        """It does."""
        return True

    @property
    def pool(self) -> Selection:
        """All that are in a class."""
        return self._inner

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Take the next sample of the class whose turn it is."""
        turns, classes = np.divmod(epochs * self.size + numbers, len(self._bounds) - 1)
        starts = self._bounds[classes]
        places, _ = in_turn(turns, classes, self._bounds[classes + 1] - starts, self._key)
        return self._inner.ids(self._members[starts + places], epochs)


class WeightedDraws(Selection):
    """Draws with replacement: each one falls on a sample with the probability that its weight says."""

    def __init__(self, inner: Selection, cumulative: NDArray[np.float64], size: int, seed: int) -> None:
        """Draw from samples, given the sum of each one's weight and all weights before it."""
        self.size = size
        self._inner, self._cumulative = inner, cumulative
        self._below = np.nextafter(cumulative[-1], 0)  # rounding must not lead past the last sample of any weight
        self._key = stream_key("weighted", seed)

    @property
    def draws(self) -> bool:
        """It does."""
        return True

    @property
    def pool(self) -> Selection:
        """Those that have a weight."""
        return Listed(self._inner, np.flatnonzero(np.diff(self._cumulative, prepend=0.0)))

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Throw a dart at the weights, laid end to end."""
        keys = mix(epochs.astype(np.uint64), self._key)
        darts = uniforms(keys[:, None], numbers, 1)[:, 0] * self._cumulative[-1]
        hit = np.searchsorted(self._cumulative, np.minimum(darts, self._below), side="right")
        return self._inner.ids(hit, epochs)


class MixedDraws(Selection):
    """Parts in given proportions: an epoch has the same number of draws from each as every other epoch."""

    def __init__(self, parts: Sequence[Selection], starts: Sequence[int], shares: Sequence[int], seed: int) -> None:
        """Mix selections.

        Args:
            starts: The first id of each part's source.
            shares: How many draws of an epoch each part gets.
        """
        self.size = sum(shares)
        self._parts, self._starts = parts, starts
        self._shares: Numbers = np.asarray(shares, np.int64)
        self._ends: Numbers = np.cumsum(self._shares)
        self._sizes = np.asarray([part.size for part in parts], np.int64)
        self._key = stream_key("mix", seed)

    @property
    def draws(self) -> bool:
        """It does."""
        return True

    @property
    def pool(self) -> Selection:
        """The pools of the parts."""
        return Concatenated([part.pool for part in self._parts], self._starts)

    def ids(self, numbers: Numbers, epochs: Numbers) -> Numbers:
        """Take the next sample of the part that the number falls to; its epochs are its own, at its own speed."""
        owners = np.searchsorted(self._ends, numbers, side="right")
        shares = self._shares[owners]
        turns = epochs * shares + numbers - (self._ends[owners] - shares)
        places, passes = in_turn(turns, owners, self._sizes[owners], self._key)
        ids = np.empty_like(numbers)
        for owner in np.unique(owners).tolist():
            own = owners == owner
            ids[own] = self._starts[owner] + self._parts[owner].ids(places[own], passes[own])
        return ids


class Balanced(SelectionStep):
    """Draw from all classes alike, however many samples they have."""

    draws: ClassVar[bool] = True
    kind: Literal["balanced"] = "balanced"
    field: str = "label"
    samples: DrawsOfEpoch = None

    def make_index(self, candidates: Candidates, table: ReadTable) -> Index:
        """Sort the samples by class."""
        labels = candidates.labels(self.field, "balanced")
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return {"members": np.argsort(classes, kind="stable"), "bounds": np.r_[0, np.cumsum(counts)]}

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Draw from the classes in turn."""
        return BalancedDraws(inner, index["members"], index["bounds"], self.samples or inner.size, seed)


class Weighted(SelectionStep):
    """Draw each sample as often as its weight says, with replacement."""

    draws: ClassVar[bool] = True
    kind: Literal["weighted"] = "weighted"
    weights: Annotated[
        str | SkipJsonSchema[TableRef], Field(description="A .npy file with a weight for each sample of the source.")
    ]
    samples: DrawsOfEpoch = None

    def make_index(self, candidates: Candidates, table: ReadTable) -> Index:
        """Add up the weights of the samples that are selected."""
        weights = open_rows("weights", self.weights, table)
        check_weights(weights)
        if len(weights) != candidates.of_source:
            raise DatasetError(
                f"weighted: {len(weights):,} weights for the {candidates.of_source:,} samples of the source: expected "
                "one for each, also where only some of them are selected"
            )
        cumulative = np.cumsum(weights[candidates.ids], dtype=np.float64)
        if not cumulative[-1] > 0:
            raise DatasetError("weighted: the weights of the selected samples sum to zero: there is nothing to draw")
        return {"cumulative": cumulative}

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Draw by weight."""
        return WeightedDraws(inner, index["cumulative"], self.samples or inner.size, seed)


def check_weights(weights: np.ndarray) -> None:
    """See to it that weights can be drawn by.

    Raises:
        DatasetError: If they are no numbers in one row, or one is below zero, infinite or NaN, or all are zero.
    """
    if weights.ndim != 1 or weights.dtype.kind not in "biuf":
        raise DatasetError(f"weighted: the weights are {weights.dtype} {weights.shape}, expected one number a sample")
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DatasetError(f"weighted: the weight of sample {first} is {weights[first]}, expected 0 or more")
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=np.float64)
    if not 0 < total < np.inf:
        raise DatasetError(f"weighted: the {len(weights):,} weights sum to {total}: there is nothing to draw by")
