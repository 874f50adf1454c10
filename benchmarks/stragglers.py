"""How much does a slow sample hold up, if one in 200 takes 100 times longer?

4,000 samples, each of which is waited for, as for a disk or another machine: 1 ms, and 100 ms for one in 200. Batches
of 64, shuffled: every third one has a slow sample in it. Nobody computes: a worker that waits keeps no core busy, and
two workers can do no more than two waits at a time.

Who gives whole batches to workers, and few at a time, waits for the slow one with all others done.

Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   samples/s, median of 5 (smallest..largest): those with many batches on their way are where two waits can be
         loader-service, 2 workers       938 (578..963)
         PyTorch DataLoader, 2 workers   977 (885..1,047)
         Keras PyDataset, 2 threads      955 (869..1,053)
         Grain, 2 processes              904 (707..1,050)
         Keras PyDataset, 2 processes    870 (516..958)
         Grain, 2 threads                783 (703..1,051)
         one process, in line            430 (303..617)
         floor: 2 bare processes         960 (652..1,102)

    python -m benchmarks.stragglers
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import main
from benchmarks.peers import case_of
from benchmarks.work import Ids, Work

SAMPLES = 4000
USUAL, SLOW = 0.001, 0.1  # seconds
EVERY = 200


def load(i: int) -> np.ndarray:
    """Wait for a sample; its numbers tell which it is."""
    time.sleep(SLOW if i % EVERY == EVERY // 2 else USUAL)
    return np.full(16, i, np.float32)


class Source:
    """The same as a source of ours."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"x": load(i), "y": i}


class Waiting(Work):
    samples = SAMPLES
    rows = 64
    x = ((16,), np.float32)
    y = ((), np.int64)

    def dataset(self) -> Any:
        from loader_service import Dataset

        return Dataset.from_python("benchmarks.stragglers:Source").shuffle(seed=7).batch(self.rows)

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        return load(int(i)), np.int64(i)

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        for row, i in enumerate(ids.tolist()):
            x[row] = load(i)
        y[...] = ids

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert np.array_equal(x[:, 0], ids), "the rows are not those of the samples"


WORK = Waiting()
CASES = [case_of("stragglers", WORK, short=False)]

if __name__ == "__main__":
    main("benchmarks.stragglers", __doc__ or "", CASES)
