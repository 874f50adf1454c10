"""Which batches each pass of Keras over a stream is made of. Arithmetic only.

a pass that          begins                                                           and has
goes on              at the cursor; with the next epoch, if the one before was        the rest of the epoch, or the
                     broken off                                                       steps that Keras asks for
rolls                at the cursor                                                    `steps` batches
starts again         with batch 0 of epoch 0, and leaves the cursor where it is       the epoch, or the steps
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loader_service.protocol.spec import DatasetInfo


@dataclass(frozen=True)
class Passes:
    """How one loop of Keras passes over a dataset."""

    info: DatasetInfo
    steps: int | None = None  # batches of a pass; None: to the end of the epoch
    advance: bool = True  # goes on, or starts again
    rolling: bool = False  # epochs of the dataset mean nothing to it

    @property
    def epoch(self) -> int:
        """Batches of an epoch."""
        return self.info.batches_per_epoch

    @property
    def longest(self) -> int:
        """Batches of a pass that begins with an epoch."""
        return self.steps or self.epoch

    @property
    def cycle(self) -> tuple[int, int] | None:
        """First and last number of what every pass goes over again."""
        return None if self.advance else (0, min(self.longest, self.epoch) - 1)

    def first(self, cursor: int, broken_off: bool) -> int:
        """Return where a pass begins."""
        if not self.advance:
            return 0
        if broken_off and not self.rolling:
            return -(-cursor // self.epoch) * self.epoch
        return cursor

    def length(self, first: int) -> int:
        """Return how many batches the pass has that begins at `first`."""
        return self.steps or self.epoch - first % self.epoch

    def numbers(self, first: int) -> Iterator[int]:
        """Yield the batches of that pass."""
        for n in range(first, first + self.length(first)):
            yield n if self.advance else n % self.epoch

    def rows_per_sample(self, first: int, length: int) -> float:
        """Return the rows of some batches for each sample in them: more than 1 where padding is among them."""
        if self.info.remainder != "pad":
            return 1.0
        rows = length * self.info.batch_size
        padding = self.epoch * self.info.batch_size - self.info.samples
        ends = (first + length) // self.epoch - first // self.epoch
        return rows / (rows - ends * padding)
