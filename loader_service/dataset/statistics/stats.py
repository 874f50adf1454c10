"""`Stats`: what came out, to look at, to write into a file, and to declare transforms and class weights with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from loader_service.protocol.errors import DatasetError, nearest

Numbers = float | tuple[float, ...]
MOST_BINS = 32


@dataclass(frozen=True)
class Histogram:
    """How many of some whole numbers lie in each bin: bin i holds edges[i] <= number < edges[i + 1]."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, counted: Mapping[int, int]) -> Histogram:
        """Return a bin for each number; or, where there are many different ones, bins of one width.

        >>> Histogram.of({3: 10, 7: 1})
        Histogram(edges=(3, 7, 8), counts=(10, 1))
        """
        numbers = sorted(counted)
        if len(numbers) <= MOST_BINS:
            edges = [*numbers, numbers[-1] + 1]
        else:
            width = -(-(numbers[-1] + 1 - numbers[0]) // MOST_BINS)
            edges = [*range(numbers[0], numbers[-1] + 1, width), numbers[-1] + 1]
        weights = [counted[number] for number in numbers]
        counts, _ = np.histogram(numbers, bins=[*edges[:-1], edges[-1] - 0.5], weights=weights)
        return cls(tuple(edges), tuple(int(count) for count in counts))


@dataclass(frozen=True)
class FieldStats:
    """One field over all samples.

    `mean`, `std`, `min` and `max` are one number each; or, of rows with two axes or more, one for each channel, which
    is an entry of the last axis. They are of the finite numbers; `std` divides by their count, as `numpy.std` does.

    Attributes:
        entries: Finite numbers, of all channels together; `nan` and `infinite` count the others.
        classes: Class number -> samples, where the field is a whole number a sample, and has few different ones.
        class_names: Names of the classes 0, 1, ..., where the source knows them.
        sizes: Shape of a row, as "480x640x3" -> samples; the most frequent ones. `other_sizes`: samples of all others.
        axes: The histogram of each axis whose size differs: "height", "width"; "length" of rows with fewer axes.
    """

    dtype: str
    mean: Numbers
    std: Numbers
    min: Numbers
    max: Numbers
    entries: int
    nan: int = 0
    infinite: int = 0
    classes: dict[int, int] | None = None
    class_names: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    other_sizes: int = 0
    axes: dict[str, Histogram] = field(default_factory=dict)


@dataclass(frozen=True)
class Stats(Mapping[str, FieldStats]):
    """Statistics of a dataset: a mapping from field to `FieldStats`.

    Attributes:
        samples: Samples that were counted.
        left_out: Samples (of a Keras Sequence, batches) that were not, since they cannot be made, and
            `on_error("replace")` puts others there.
        fields: What was found of each field.
        skipped: Fields of which there is nothing to tell, and why.
    """

    samples: int
    fields: dict[str, FieldStats]
    left_out: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    origin: str = field(default="the statistics", compare=False)  # what errors call them

    def __getitem__(self, name: str) -> FieldStats:
        """Return what was found of a field.

        Raises:
            DatasetError: If there is none of that name: tells the nearest one.
        """
        if name in self.fields:
            return self.fields[name]
        if name in self.skipped:
            raise DatasetError(f"{self.origin}: nothing was found of field {name!r}: {self.skipped[name]}")
        raise DatasetError(f"{self.origin}: there is no field {name!r}; {nearest(name, self.fields)}")

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {told.dtype}" for name, told in self.fields.items())
        left_out = f", {self.left_out:,} left out" if self.left_out else ""
        return f"<Stats of {self.samples:,} samples{left_out} ({fields})>"

    def balanced(self, name: str = "label") -> dict[int, float]:
        """Return a weight for each class, for `class_weight`: samples / (classes * samples of the class).

        Classes without a sample have none.

        Raises:
            DatasetError: If the field numbers no classes.
        """
        counts = self[name].classes
        if counts is None:
            raise DatasetError(
                f"{self.origin}: field {name!r} numbers no classes: it is {self[name].dtype}, from {self[name].min} to "
                f"{self[name].max}, expected one whole number a sample, and few different ones"
            )
        return balanced_weights(counts)

    def scale_of(self, name: str) -> tuple[Numbers, Numbers]:
        """Return mean and std of a field, to normalize with.

        Raises:
            DatasetError: If a channel is the same everywhere: there is nothing to divide by.
        """
        found = self[name]
        flat = [number for number, std in enumerate(np.atleast_1d(found.std).tolist()) if not std > 0]
        if flat:
            which = f"channel {flat[0]} of field {name!r}" if isinstance(found.std, tuple) else f"field {name!r}"
            raise DatasetError(
                f"{self.origin}: std of {which} is {np.atleast_1d(found.std)[flat[0]]}, expected more than 0: "
                "what is the same everywhere cannot be normalized"
            )
        return found.mean, found.std

    def to_plain(self) -> dict[str, Any]:
        """Return dicts, tuples, strings and numbers."""
        plain = asdict(self)
        del plain["origin"]
        return plain

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stats:
        """Read a file that `save`, or `loader-service stats -o`, has written.

        Raises:
            DatasetError: If it cannot be read, or is no such file.
        """
        from loader_service.dataset.statistics.stats_file import load

        return load(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a TOML file, for `load`, `normalize(stats=...)`, and to read."""
        from loader_service.dataset.statistics.stats_file import save

        save(self, path)


def balanced_weights(counts: Mapping[int, int]) -> dict[int, float]:
    """Return what samples of each class weigh if all classes are to count alike; on average, a sample weighs 1.

    Source: scikit-learn's `compute_class_weight("balanced")`, after King and Zeng, "Logistic regression in rare events
    data", 2001.

    >>> balanced_weights({0: 30, 1: 10, 2: 0})
    {0: 0.6666666666666666, 1: 2.0}
    """
    there = {number: count for number, count in counts.items() if count}
    samples = sum(there.values())
    return {number: samples / (len(there) * count) for number, count in there.items()}
