"""FFCV: one file of its own format, read by threads of compiled code.

Its best: samples stored as they are used, raw pixels among them, `os_cache` since all of it fits into memory, an order
that is wholly random. Crop and scaling are one operator of its own, which interpolates by area. Batches are handed out
where FFCV has them, as arrays. Files are written once, before anything is timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import count
from typing import Any

from benchmarks.arms import Batch, Epochs
from benchmarks.work import Work


class Samples:
    """What its writer reads."""

    def __init__(self, work: Work, stored: Any) -> None:
        self._work, self._stored = work, stored

    def __len__(self) -> int:
        return self._work.samples

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        made: tuple[Any, ...] = self._stored(i)
        return made


def does(work: Work) -> bool:
    return work.says("ffcv")


def loader(work: Work) -> Any:
    from ffcv.loader import Loader, OrderOption
    from ffcv.writer import DatasetWriter

    path, fields, stored, pipelines = work.ffcv()
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        DatasetWriter(str(part), fields, num_workers=2).from_indexed_dataset(Samples(work, stored))
        part.rename(path)
    return Loader(
        str(path),
        batch_size=work.rows,
        num_workers=2,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        batches_ahead=work.prefetch,
        pipelines=pipelines,
        seed=7,
    )


def epoch(batches: Any, work: Work) -> Iterator[Batch]:
    for x, y in batches:
        yield x, y.reshape(-1, *work.y[0])


def epochs(work: Work) -> Epochs:
    batches = loader(work)
    while True:
        yield epoch(batches, work)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    batches = loader(work)
    copies = ((x.copy(), y.copy()) for _ in count() for x, y in epoch(batches, work))  # it writes to them again
    yield copies, -(-work.samples // work.rows)
