"""Rules without I/O: what is known of one field, batch by batch, until all of it is; nothing is kept of the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.statistics.moments import (
    COUNT,
    INFINITE,
    LEAST,
    MEAN,
    MOST,
    NAN,
    SQUARES,
    Moments,
    merged,
    moments_of,
    no_moments,
)
from loader_service.dataset.statistics.stats import FieldStats, Histogram

MOST_CLASSES = 1 << 12  # different whole numbers: a field that has more counts or measures something
MOST_SIZES = 32  # sizes that are named, the most frequent ones
MOST_SHAPES = 1 << 16  # different shapes that are remembered


class Counts:
    """How often each of some whole numbers came; until there are too many different ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[int] | None = Counter()

    def add(self, numbers: np.ndarray) -> None:
        """Count some more."""
        if self._counts is not None:
            values, counts = np.unique(numbers, return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                self._counts[int(value)] += count
            if len(self._counts) > self._most:
                self._counts = None

    def result(self) -> dict[int, int] | None:
        """Return them, in the order of the numbers; None if there were too many."""
        return None if self._counts is None else dict(sorted(self._counts.items()))


class Tally:
    """One field of all samples."""

    def __init__(self, dtype: str, channels: int, *, per_channel: bool, is_class: bool = False) -> None:
        """Know nothing yet.

        Args:
            channels: Numbers of which there are moments: entries of the last axis, or 1 for all entries together.
            per_channel: What a single one of them means.
            is_class: Whether the field may number classes: a whole number a sample.
        """
        self._dtype, self._channels, self._per_channel = dtype, channels, per_channel
        self._moments = no_moments(channels)
        self._shapes: Counter[tuple[int, ...]] = Counter()
        self._axes: list[Counter[int]] = []
        self._rows = 0  # that have a shape
        self.is_class = is_class
        self._classes = Counts(MOST_CLASSES) if is_class else None

    def add_rows(self, rows: np.ndarray) -> None:
        """Add rows of one shape, of shape (rows, *shape)."""
        self._merge(moments_of(rows, self._channels)[None])
        if rows.ndim > 1:
            self._count_shape(rows.shape[1:], len(rows))
        if self._classes is not None:
            self._classes.add(rows)

    def add_moments(self, rows: Moments) -> None:
        """Add the moments of some rows, of shape (rows, 7, channels)."""
        self._merge(rows)

    def add_shapes(self, shapes: NDArray[np.int64]) -> None:
        """Add the shapes of some rows, of shape (rows, axes)."""
        values, counts = np.unique(shapes, axis=0, return_counts=True)
        for shape, count in zip(map(tuple, values.tolist()), counts.tolist(), strict=True):
            self._count_shape(shape, count)

    def result(self, class_names: Sequence[str] = ()) -> FieldStats:
        """Return what came of it."""
        counts = self._moments[COUNT]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(self._moments[SQUARES] / counts)
        found = {
            "mean": np.where(counts > 0, self._moments[MEAN], np.nan),
            "std": spread,
            "min": np.where(counts > 0, self._moments[LEAST], np.nan),
            "max": np.where(counts > 0, self._moments[MOST], np.nan),
        }
        numbers = {
            name: tuple(values.tolist()) if self._per_channel else values.item() for name, values in found.items()
        }
        classes = self._classes.result() if self._classes is not None else None
        named = classes is not None and class_names and all(0 <= number < len(class_names) for number in classes)
        if classes is not None and named:  # those that have no sample are classes, too
            classes = {number: classes.get(number, 0) for number in range(len(class_names))}
        sizes = dict(self._shapes.most_common(MOST_SIZES))
        return FieldStats(
            dtype=self._dtype,
            **numbers,
            entries=int(counts.sum()),
            nan=int(self._moments[NAN].sum()),
            infinite=int(self._moments[INFINITE].sum()),
            classes=classes,
            class_names=tuple(class_names) if named else (),
            sizes={"x".join(map(str, shape)): count for shape, count in sizes.items()},
            other_sizes=self._rows - sum(sizes.values()),
            axes=self._histograms(),
        )

    def _merge(self, rows: Moments) -> None:
        self._moments = merged(np.concatenate([self._moments[None], rows]))

    def _count_shape(self, shape: tuple[int, ...], count: int) -> None:
        self._rows += count
        if shape in self._shapes or len(self._shapes) < MOST_SHAPES:
            self._shapes[shape] += count
        self._axes += [Counter() for _ in shape[len(self._axes) :]]
        for sizes, size in zip(self._axes, shape, strict=False):
            sizes[size] += count

    def _histograms(self) -> dict[str, Histogram]:
        """Return the histogram of each axis whose size differs."""
        depth = len(self._axes)
        names = ("height", "width", "channels") if depth == 3 else ("length", *(f"axis {n}" for n in range(1, depth)))
        named = zip(names, self._axes, strict=False)
        return {name: Histogram.of(sizes) for name, sizes in named if len(sizes) > 1}
