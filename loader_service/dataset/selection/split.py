"""A part to train with, and a part to validate with: two datasets that have no sample in common, and together all."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loader_service.dataset.draws import mix, stream_key
from loader_service.dataset.order import shuffled
from loader_service.dataset.selection.candidates import Candidates
from loader_service.dataset.selection.selection import Listed, Permuted, Run, Selection
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.protocol.errors import DatasetError

SHOWN = 3  # classes that an error names


class Split(SelectionStep):
    """One of both parts."""

    kind: Literal["split"] = "split"
    part: Literal["train", "validation"]
    validation: Annotated[float, Field(gt=0, lt=1, description="Share of the samples that validate.")] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Sets which they are.")] = 0
    shuffle: bool = Field(True, description="By chance; or the first samples validate.")
    stratify: Annotated[str | None, Field(description="A field: the share holds for each of its values.")] = None

    def make_index(self, candidates: Candidates, table: ReadTable) -> Index:
        """List the part's samples, if classes must be told apart for that."""
        if self.stratify is None:
            return {}
        labels = candidates.labels(self.stratify, "split")
        values, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if counts.min() < 2:
            raise DatasetError(self._too_few(values[counts < 2].tolist(), candidates.class_names))
        held = np.clip(self._held(counts), 1, counts - 1)
        key = stream_key("split", self.seed) if self.shuffle else None
        validates = _places(classes, counts, key) < held[classes]
        return {"numbers": np.flatnonzero(validates == (self.part == "validation"))}

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Take the list; or without one, the first or the last samples of an order that the seed sets."""
        if self.stratify is not None:
            return Listed(inner, index["numbers"])
        if inner.size < 2:
            raise DatasetError("split: one sample cannot be split into two parts")
        held = min(max(int(self._held(np.asarray(inner.size))), 1), inner.size - 1)
        order = Permuted(inner, stream_key("split", self.seed)) if self.shuffle else inner
        return Run(order, 0, held) if self.part == "validation" else Run(order, held, inner.size - held)

    def _held(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of so many samples validate: rounded; or cut to whole ones, as Keras' are."""
        return np.asarray(np.floor(self.validation * counts + (0.5 if self.shuffle else 0)).astype(np.int64))

    def _too_few(self, values: list[float], class_names: list[str]) -> str:
        names = [
            f"{value!r} ({class_names[int(value)]})" if class_names and int(value) < len(class_names) else repr(value)
            for value in values[:SHOWN]
        ]
        more = f" and {len(values) - SHOWN:,} more" if len(values) > SHOWN else ""
        return (
            f"split: {self.stratify!r} has only one sample of {', '.join(names)}{more}, which cannot be in both parts: "
            "leave it out with .filter(...), or split without `stratify`"
        )


def _places(classes: NDArray[np.int64], counts: NDArray[np.int64], key: int | None) -> NDArray[np.int64]:
    """Return where each sample stands in its class; with a key in a random order of it."""
    by_class = np.argsort(classes, kind="stable")
    places = np.empty(len(classes), np.int64)
    places[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    if key is None:
        return places
    return shuffled(places, counts[classes], mix(classes.astype(np.uint64), key))
