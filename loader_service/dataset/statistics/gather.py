"""`dataset.stats`: one epoch of a dataset, added up.

Workers do the adding: behind the last transform stands one more (transforms/moments.py), which makes a few numbers of
each sample. So pictures are added up where they were decoded, they may differ in size, and nothing large is handed
over. Where there is nothing to decode, and rows are small, a batch of them is added up in one go here instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.declaration import Batch, Declaration
from loader_service.dataset.statistics.stats import FieldStats, Stats
from loader_service.dataset.statistics.tally import Tally
from loader_service.dataset.transforms.map import SampleFunction
from loader_service.dataset.transforms.moments import OWN_LENGTHS, Moments, has_channels, is_numeric, parted
from loader_service.dataset.transforms.pad import PadTo
from loader_service.dataset.transforms.transform import SampleTransform
from loader_service.protocol.errors import DatasetError, nearest
from loader_service.protocol.ragged import Ragged, Text
from loader_service.protocol.spec import Spec

if TYPE_CHECKING:
    from loader_client import Batch as MadeBatch
    from loader_client import Loader, Stream
    from loader_service.dataset.dataset import Dataset

Progress = Callable[[int, int], None]  # samples that are done, and all of them
ROWS = 64  # of a batch, where the dataset does not say
MANY_ROWS = 4096  # of one that is added up here, and
MANY_BYTES = 1 << 20
SMALL = 1 << 12  # bytes of a row that is handed over as it is


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    fields: tuple[str, ...] | None
    channels: tuple[str, ...]


def gather(
    dataset: Dataset,
    fields: Sequence[str] | None,
    channels: Sequence[str],
    progress: Progress | None,
    connect: Callable[[], Loader],
) -> Stats:
    """Return the statistics of a dataset.

    Args:
        connect: Makes the connection over which its samples are read, which is closed at the end.
    Others are those of `Dataset.stats`.
    """
    wanted = Wanted(_names("fields", fields), _names("channels", channels) or ())
    with connect() as loader:
        stream, is_summed = _open(loader, dataset, wanted)
        with stream:
            return _add_up(stream, dataset.declaration, wanted, is_summed=is_summed, progress=progress)


def _names(what: str, given: Sequence[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in names) or (what == "fields" and not names):
        raise DatasetError(f"stats: {what} is {given!r}, expected names of fields")
    return names


# -- what is read ---------------------------------------------------------------------------------------------


def _open(loader: Loader, dataset: Dataset, wanted: Wanted) -> tuple[Stream, bool]:
    """Return a stream over all samples, and whether workers have added them up."""
    declared = dataset.declaration
    if declared.source.whole:
        return loader.stream(dataset), False
    if _is_plain(declared):
        with loader.stream(_of(dataset, batch=Batch(size=1))) as probe:
            samples, spec = probe.samples, probe.spec
        if all(not field.varies and field.nbytes <= SMALL for field in spec.values()):
            row = max(1, sum(field.nbytes for field in spec.values()))
            size = (
                declared.batch.size
                if declared.batch and declared.bucket_by_length
                else max(1, min(MANY_ROWS, MANY_BYTES // row))
            )
            return loader.stream(_of(dataset, batch=Batch(size=min(size, samples)))), False
    transforms, padded = _with_lengths(declared)
    transforms += (Moments(fields=wanted.fields, channels=wanted.channels, padded=padded),)
    size = declared.batch.size if declared.batch else ROWS
    return loader.stream(_of(dataset, transforms=transforms, batch=Batch(size=size, remainder="pad"))), True


def _is_plain(declared: Declaration) -> bool:
    """Whether rows are read, and changed, many at a time."""
    return (
        declared.source.kind in ("arrays", "series")
        and not declared.finish
        and not any(isinstance(step, SampleTransform) for step in declared.transforms)
    )


def _of(dataset: Dataset, **changes: Any) -> Dataset:
    """Return a dataset of the same samples, before whatever is done to whole batches."""
    return replace(dataset, declaration=dataset.declaration.model_copy(update={"finish": (), **changes}))


def _with_lengths(declared: Declaration) -> tuple[tuple[Any, ...], dict[str, str]]:
    """Return transforms that say how many entries of a padded row are no padding, and where they say so.

    Behind a user's function nobody knows whether they still are: it is given no further field.
    """
    steps: list[Any] = []
    padded: dict[str, str] = {}
    last_map = max(
        (number for number, step in enumerate(declared.transforms) if isinstance(step, SampleFunction)), default=-1
    )
    for number, step in enumerate(declared.transforms):
        if isinstance(step, PadTo) and (step.lengths is not None or number > last_map):
            lengths = step.lengths or f"{OWN_LENGTHS}{step.field}"
            padded[step.field] = lengths
            steps.append(step.model_copy(update={"lengths": lengths}))
        else:
            steps.append(step)
    return tuple(steps), padded


# -- adding up ------------------------------------------------------------------------------------------------


def _add_up(
    stream: Stream, declared: Declaration, wanted: Wanted, *, is_summed: bool, progress: Progress | None
) -> Stats:
    if is_summed:
        tallies, skipped = _tallies_of_moments(stream.spec)
    else:
        tallies, skipped = _tallies_of_rows(stream.spec, wanted)
    # A sample that stands in for a bad one is counted once, as itself. Draws repeat samples, and are meant to.
    once = Once() if declared.on_error is not None and not declared.draws else None
    samples = read = left_out = 0
    for batch in stream:
        keep = batch.ids >= 0
        read += int(keep.sum())
        if once is not None:
            left_out += int(keep.sum())
            keep &= once.first(batch.ids)
            left_out -= int(keep.sum())
        if keep.any():
            samples += len(_rows(batch, tallies)) if declared.source.whole else int(keep.sum())
            add = _add_moments if is_summed else _add_rows
            add(batch, tallies, keep, whole=declared.source.whole)
        if progress is not None:
            progress(read, stream.samples)
    return _result(tallies, skipped, samples, left_out, stream.class_names, wanted)


class Once:
    """Tells which samples come for the first time."""

    def __init__(self) -> None:
        self._seen = np.zeros(1024, bool)

    def first(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return, for each id, whether it has not come before; -1 never has."""
        most = int(ids.max(initial=0))
        if most >= len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros(max(most + 1 - len(self._seen), len(self._seen)), bool)])
        fresh = np.zeros(len(ids), bool)
        fresh[np.unique(ids, return_index=True)[1]] = True
        fresh &= (ids >= 0) & ~self._seen[np.maximum(ids, 0)]
        self._seen[ids[fresh]] = True
        return fresh


def _tallies_of_moments(spec: Spec) -> tuple[dict[str, Tally], dict[str, str]]:
    tallies: dict[str, Tally] = {}
    skipped: dict[str, str] = {}
    for key, field in spec.items():
        if not key.startswith(("value ", "channels ", "whole ", "shape ")):
            continue  # what pads the last batch has a weight
        what, dtype, name = parted(key)
        if what == "value":
            tallies[name] = Tally(dtype, 1, per_channel=False, is_class=np.dtype(dtype).kind in "iub")
        elif what in ("channels", "whole"):
            tallies[name] = Tally(dtype, field.room[-1], per_channel=what == "channels")
        else:
            skipped[name] = "it is text" if dtype == "text" else f"{dtype} has no order, and no one mean"
    return tallies, {name: why for name, why in skipped.items() if name not in tallies}


def _tallies_of_rows(spec: Spec, wanted: Wanted) -> tuple[dict[str, Tally], dict[str, str]]:
    for name in (*(wanted.fields or ()), *wanted.channels):
        if name not in spec:
            raise DatasetError(f"stats: there is no field {name!r}; {nearest(name, spec)}")
    tallies: dict[str, Tally] = {}
    skipped: dict[str, str] = {}
    for name in spec if wanted.fields is None else wanted.fields:
        field = spec[name]
        if field.form == "text" or not is_numeric(np.dtype(field.dtype)):
            told = "text" if field.form == "text" else str(field)
            if wanted.fields is not None:
                raise DatasetError(f"stats: field {name!r} is {told}, expected real numbers: leave it out")
            skipped[name] = "it is text" if field.form == "text" else f"{field.dtype} has no order, and no one mean"
        elif has_channels(name, field, wanted.channels) and field.shape[-1] is not None:
            tallies[name] = Tally(field.dtype, field.room[-1], per_channel=True)
        else:
            is_class = not field.shape and np.dtype(field.dtype).kind in "iub"
            tallies[name] = Tally(field.dtype, 1, per_channel=False, is_class=is_class)
    return tallies, skipped


def _add_moments(batch: MadeBatch, tallies: dict[str, Tally], keep: NDArray[np.bool_], *, whole: bool) -> None:
    for key, rows in batch.items():
        if not key.startswith(("value ", "channels ", "whole ", "shape ")):
            continue
        what, _, name = parted(key)
        if name not in tallies:
            continue
        if what == "value":
            tallies[name].add_rows(rows[keep])
        elif what == "shape":
            tallies[name].add_shapes(rows[keep])
        else:
            tallies[name].add_moments(rows[keep])


def _add_rows(batch: MadeBatch, tallies: dict[str, Tally], keep: NDArray[np.bool_], *, whole: bool) -> None:
    for name, tally in tallies.items():
        rows = batch[name]
        if isinstance(rows, Ragged | Text):
            for row in rows:
                tally.add_rows(np.asarray(row)[None])
        elif whole:
            tally.add_rows(rows if rows.ndim else rows[None])
        else:
            tally.add_rows(rows if keep.all() else rows[keep])


def _rows(batch: MadeBatch, tallies: Iterable[str]) -> Any:
    """Return what tells how many samples a batch has that was made in one piece."""
    return next((batch[name] for name in tallies if np.ndim(batch[name])), batch.ids)


def _result(
    tallies: dict[str, Tally],
    skipped: dict[str, str],
    samples: int,
    left_out: int,
    class_names: Sequence[str],
    wanted: Wanted,
) -> Stats:
    classes = [name for name, tally in tallies.items() if tally.is_class]
    named = "label" if "label" in classes else classes[0] if len(classes) == 1 else None
    fields: dict[str, FieldStats] = {}
    for name, tally in tallies.items():
        found = tally.result(class_names if name == named else ())
        if not found.entries:
            skipped[name] = _nothing(found)
        else:
            fields[name] = found
    for name in wanted.fields or ():
        if name in skipped:
            raise DatasetError(f"stats: nothing can be found of field {name!r}: {skipped[name]}")
    if not fields:
        told = "; ".join(f"{name!r}: {why}" for name, why in skipped.items())
        raise DatasetError(f"stats: nothing can be found of any field: {told}")
    return Stats(samples=samples, fields=fields, left_out=left_out, skipped=skipped)


def _nothing(found: FieldStats) -> str:
    if found.nan or found.infinite:
        return f"none of its numbers is finite: {found.nan:,} are NaN, {found.infinite:,} infinite"
    return "it has no entries in any sample"
