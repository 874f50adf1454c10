"""How many samples each class has, as far as a source knows its labels without reading samples: for class weights."""

from __future__ import annotations

import numpy as np

from loader_service.dataset.declaration import Declaration
from loader_service.dataset.selection.selection import Selection
from loader_service.dataset.sources.source import Reader
from loader_service.dataset.transforms.map import SampleFunction
from loader_service.dataset.transforms.transform import FieldTransform
from loader_service.protocol.spec import FieldSpec

MOST_SAMPLES = 1 << 24  # to count more would take longer than to open the dataset
MOST_CLASSES = 1 << 12
BLOCK = 1 << 16  # samples that are looked at together
KEEPING = ("cast", "one_hot")  # steps behind which a label still tells its class


def class_counts(
    declaration: Declaration, reader: Reader, selection: Selection, field: str, spec: FieldSpec | None
) -> list[int]:
    """Return the samples of each class, by its number; nothing where that is not known, or differs from epoch to epoch.

    Args:
        reader: Of the source.
        selection: The samples that there are of it.
        field: The label.
        spec: What it is at the source, if it is there.
    """
    if not _is_label(spec) or field not in reader.columns or _changes(declaration, field):
        return []
    if declaration.source.live or selection.draws or selection.size > MOST_SAMPLES:
        return []
    assert spec is not None, "it is a label"
    counts = np.zeros(0, np.int64)
    for first in range(0, selection.size, BLOCK):
        ids = selection.fixed_ids(np.arange(first, min(first + BLOCK, selection.size), dtype=np.int64))
        labels = np.empty((len(ids), *spec.room), spec.dtype)
        reader.read_column(field, ids, labels)
        if labels.min() < 0 or labels.max() >= MOST_CLASSES:
            return []
        found = np.bincount(labels.reshape(-1).astype(np.int64), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return [int(count) for count in counts]


def _is_label(spec: FieldSpec | None) -> bool:
    """Whether a field is one whole number a sample."""
    return (
        spec is not None
        and not spec.varies
        and np.dtype(spec.dtype).kind in "iu"
        and np.prod(spec.room, dtype=np.int64) == 1
    )


def _changes(declaration: Declaration, field: str) -> bool:
    """Whether a step may make another class of a label."""
    return any(step.kind == "map_batch" for step in declaration.finish) or any(
        isinstance(step, SampleFunction)
        or (isinstance(step, FieldTransform) and step.field == field and step.kind not in KEEPING)
        for step in declaration.transforms
    )
