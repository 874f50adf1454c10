"""Some samples of a dataset, as their source has them, and as batches have them in several epochs.

They are the first of an epoch, in its order: what the model would get there. In the columns of later epochs stand the
same samples, at the same places, with the random numbers of those epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.declaration import Declaration
from loader_service.dataset.objects import carry
from loader_service.dataset.plan import WEIGHT, Plan
from loader_service.dataset.sources.python import Python
from loader_service.dataset.sources.source import ReadTable
from loader_service.dataset.transforms.map import globals_kept
from loader_service.dataset.whole import AnyPlan, WholePlan
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.layout import IDS
from loader_service.protocol.tables import TableRef

ORIGINAL = "original"
MOST_SAMPLES = 100
MOST_EPOCHS = 20


@dataclass(frozen=True)
class Version:
    """One sample, as it is at the source or in one epoch."""

    heading: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One sample in all its versions."""

    id: int | None  # None: it is a row of a batch that was made in one piece
    name: str
    versions: list[Version]


def check_numbers(n: int, epoch: int, epochs: int) -> None:
    """See to it that numbers are such as can be shown.

    Raises:
        DatasetError: If one is not; names it.
    """
    for name, value, least, most in (
        ("n", n, 1, MOST_SAMPLES),
        ("epoch", epoch, 0, 2**31),
        ("epochs", epochs, 1, MOST_EPOCHS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise DatasetError(f"preview: {name} is {value!r}, expected a whole number from {least} to {most:,}")


def subjects(plan: AnyPlan, n: int, epoch: int, epochs: int) -> list[Subject]:
    """Return the first samples of an epoch, with their versions in `epochs` epochs from there on.

    Raises:
        DatasetError: If one cannot be made; it is named.
    """
    if isinstance(plan, WholePlan):
        return _rows_of_batches(plan, n, epoch)
    made: list[Subject] = []

    def make() -> None:
        made[:] = _versions(plan, n, epoch, epochs)

    plan.insist(make)
    return without_repetition(made)


def without_repetition(made: list[Subject]) -> list[Subject]:
    """Leave out the columns of further epochs, where no sample is another one in them: nothing random was done."""
    further = [(subject.versions[1], version) for subject in made for version in subject.versions[2:]]
    if not further or not all(same(one.fields, other.fields) for one, other in further):
        return made
    alone = all(same(subject.versions[0].fields, subject.versions[1].fields) for subject in made)
    kept = [
        [Version("as it is", subject.versions[0].fields)]
        if alone
        else [subject.versions[0], Version("every epoch", subject.versions[1].fields)]
        for subject in made
    ]
    return [Subject(subject.id, subject.name, versions) for subject, versions in zip(made, kept, strict=True)]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two samples are equal, apart from a weight that only batches have."""
    names = [name for name in one if name != WEIGHT]
    return names == [name for name in other if name != WEIGHT] and all(_equal(one[name], other[name]) for name in names)


def held(declaration: Declaration, table: ReadTable, n: int) -> tuple[Declaration, ReadTable]:
    """Return a dataset of the first samples that a live one yields: so that each can be made several times."""
    reader = declaration.source.reader({}, table)
    with globals_kept():
        samples = [reader.read(number, frozenset()) for number in range(n)]
    carried, packed = carry(Held(samples), "preview", "")
    carried = carried.model_copy(update={"name": reader.describe(0)})

    def find(ref: TableRef, *, private: bool = False) -> np.ndarray:
        return packed.copy() if ref == carried.carried else table(ref, private=private)

    batch = declaration.batch and declaration.batch.model_copy(update={"size": min(declaration.batch.size, n)})
    return declaration.model_copy(update={"source": Python(attr=carried), "batch": batch}), find


class Held:
    """Samples in a list."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {name: np.array(value) for name, value in self._samples[number].items()}


# -- within ---------------------------------------------------------------------------------------------------


def _versions(plan: Plan, n: int, epoch: int, epochs: int) -> list[Subject]:
    positions = _positions(plan, n)
    ids = np.concatenate([plan.ids(epoch, position, position + 1) for position in positions.tolist()])
    originals = [
        plan.original(sample_id, epoch, position)
        for sample_id, position in zip(ids.tolist(), positions.tolist(), strict=True)
    ]
    batches = [(f"epoch {number}", plan.batch_of(number, ids, positions)) for number in range(epoch, epoch + epochs)]
    return [
        Subject(
            sample_id,
            name,
            [
                Version(ORIGINAL, _without_hidden(original)),
                *(Version(heading, _row(batch, row)) for heading, batch in batches),
            ],
        )
        for row, (sample_id, name, original) in enumerate(zip(ids.tolist(), plan.names(ids), originals, strict=True))
    ]


def _positions(plan: Plan, n: int) -> NDArray[np.int64]:
    """Return the first positions of an epoch at which samples stand: in short batches of buckets, some have none."""
    info, size = plan.info, plan.batch_size
    there = (info.batches_per_epoch - len(info.short)) * size + sum(info.short)
    n = min(n, there)
    found: list[int] = []
    for batch in count():
        found += range(batch * size, batch * size + info.samples_of(batch))
        if len(found) >= n:
            return np.asarray(found[:n], np.int64)
    raise AssertionError("batches have no end")


def _rows_of_batches(plan: WholePlan, n: int, epoch: int) -> list[Subject]:
    """Return the first rows of an epoch's batches. Nobody knows which sample of another epoch is the same one."""
    found: list[Subject] = []
    for batch in range(plan.batches_per_epoch):
        if len(found) == n:
            break
        fields = plan.compute(epoch * plan.batches_per_epoch + batch)
        del fields[IDS]
        rows = min(map(len, fields.values()))
        found += (
            Subject(None, f"batch {batch}, row {row}", [Version(f"epoch {epoch}", _row(fields, row))])
            for row in islice(range(rows), n - len(found))
        )
    return found


def _row(batch: dict[str, Any], row: int) -> dict[str, Any]:
    return _without_hidden({name: np.asarray(values[row]) for name, values in batch.items()})


def _without_hidden(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in fields.items() if name not in (IDS, WEIGHT)}


def _equal(one: Any, other: Any) -> bool:
    left, right = np.asarray(one), np.asarray(other)
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()


def headings_of(found: Sequence[Subject]) -> list[str]:
    """Return what stands above the columns."""
    return [version.heading for version in found[0].versions]
