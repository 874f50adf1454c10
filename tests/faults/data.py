"""What is read while things fail: small and quick, and random in each way that a dataset can be."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loader_service import Dataset
from loader_service.protocol.ragged import Ragged
from tests.faults.watch import Violation

SAMPLES = 240


@dataclass(frozen=True)
class Step:
    """One step of a training: the batch's number, the hash of its bytes, the stream's state behind it."""

    n: int
    hash: str
    state: dict[str, Any]


def noise(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Add what users' functions draw: from both global generators, and from one of the sample's own."""
    walk = np.random.normal(size=256).cumsum()
    return {"x": sample["x"], "noise": np.array([random.random(), np.random.random(), rng.random(), walk[-1]])}


def noisy(batch: int = 8) -> Dataset:
    """Return numbers in memory, with noise that a user's function adds: 30 batches an epoch."""
    x = np.arange(SAMPLES * 16, dtype=np.float32).reshape(SAMPLES, 16)
    return Dataset.from_arrays(x=x).map("tests.faults.data:noise").shuffle(seed=7).batch(batch)


def table() -> Dataset:
    """Return rows and targets, as columns: 15 batches an epoch, hardly any work."""
    x = np.arange(SAMPLES * 64, dtype=np.float32).reshape(SAMPLES, 64)
    return Dataset.from_arrays(x=x, y=np.arange(SAMPLES) % 2).shuffle(seed=3).batch(16)


def bundles() -> Dataset:
    """Return pictures, mirrored at random: 192 batches an epoch, the last one short; three each come as one."""
    pictures = np.random.default_rng(7).integers(0, 256, (192 * 4 - 1, 5, 4, 3), np.uint8)
    return Dataset.from_arrays(image=pictures, y=np.arange(len(pictures))).random_flip().shuffle(seed=3).batch(4)


DATASETS: dict[str, Callable[[], Dataset]] = {"noise": noisy, "table": table, "bundles": bundles}


def hash_of(batch: Mapping[str, Any]) -> str:
    """Return the hash of every byte of a batch."""
    total = hashlib.blake2b(digest_size=12)
    for name in sorted(batch):
        field = batch[name]
        for part in (field.values, field.row_splits) if isinstance(field, Ragged) else (field,):
            array = np.asarray(part)  # a tensor is as good
            total.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def hashes(batches: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the hash of each batch."""
    return [hash_of(batch) for batch in batches]


class Expected:
    """What a script that keeps a ledger is to get: `compute` says it, once for each batch."""

    def __init__(self, dataset: str, batches: int) -> None:
        """Expect batches 0 to `batches` - 1 of a dataset by its name here, again and again."""
        self._dataset, self._batches = DATASETS[dataset](), batches
        self._hashes: dict[int, str] = {}
        self.next = 0

    def check(self, steps: Iterable[Step], who: str) -> int:
        """Compare steps with those that are due. Return how many they were.

        Raises:
            Violation: If one is missing, comes twice, or is another one.
        """
        count = 0
        for step in steps:
            if step.n != self.next:
                raise Violation(f"{who} got batch {step.n}, where batch {self.next} was due")
            if step.n not in self._hashes:
                self._hashes[step.n] = hash_of(self._dataset.compute(step.n))
            if step.hash != self._hashes[step.n]:
                raise Violation(f"{who} got other bytes for batch {step.n} than compute({step.n}) makes")
            self.next = (step.n + 1) % self._batches
            count += 1
        return count
