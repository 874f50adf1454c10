"""Ray Data: tasks of two worker processes, whose batches lie in Ray's object store.

Its best: `map_batches` over blocks of ids, each large enough that a task is worth its message, blocks taken in the
order in which they are done where nobody needs another, and `iter_batches` of the size that the blocks are cut at, so
that batches are views. A new execution for every epoch is what it offers for one shuffle an epoch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks.arms import Batch, Epochs
from benchmarks.work import Work

BLOCK = 4  # batches
STORE = 2 * 2**30  # bytes


def does(work: Work) -> bool:
    return None not in work.x[0]  # rows of a block have one shape


@contextlib.contextmanager
def running(work: Work) -> Iterator[Any]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_DISABLE_PROGRESS_BARS="1")
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        how = {"include_dashboard": False, "configure_logging": False, "log_to_driver": False, "_temp_dir": folder}
        ray.init(num_cpus=2, object_store_memory=STORE, logging_level=logging.ERROR, **how)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = not work.shuffled
        yield ray.data  # and no shutdown, which aborts where a thread of Keras still reads: Ray ends with this process


def make(block: dict[str, Any], work: Work) -> dict[str, Any]:
    ids = block["data"]
    x, y = work.batch(ids, np.random.default_rng(ids))
    return {"x": x, "y": y}


def epoch(data: Any, work: Work, number: int) -> Iterator[Batch]:
    ids = work.order(7, number)
    size = BLOCK * work.rows
    blocks = data.from_numpy(np.split(ids, range(size, work.samples, size)))
    made = blocks.map_batches(partial(make, work=work), batch_size=None, zero_copy_batch=True)
    for batch in made.iter_batches(batch_size=work.rows, prefetch_batches=work.prefetch, batch_format="numpy"):
        yield batch["x"], batch["y"]


def epochs(work: Work) -> Epochs:
    with running(work) as data:
        for number in count():
            yield epoch(data, work, number)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    with running(work) as data:
        yield (batch for number in count() for batch in epoch(data, work, number)), -(-work.samples // work.rows)
