"""FFCV: one file of its own format, read by threads of compiled code.

Its best: samples stored as they are used, raw pixels among them, `os_cache` since all of it fits into memory, an order
that is wholly random. Crop and scaling are one operator of its own, which interpolates by area. Batches are handed out
where FFCV has them, as arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.arms import Epochs
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


def write(path: Path, work: Work, fields: dict[str, Any], stored: Any) -> None:
    """Write a file with what `stored(i)` returns for each sample."""
    from ffcv.writer import DatasetWriter

    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(Samples(work, stored))


def epochs(work: Work, path: Path, pipelines: dict[str, Any]) -> Epochs:
    from ffcv.loader import Loader, OrderOption

    loader = Loader(
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
    while True:
        yield ((x, y.reshape(-1, *work.y[0])) for x, y in loader)
