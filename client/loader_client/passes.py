"""Which batches each pass of Keras over a stream is made of. Arithmetic only.

a pass that          begins                                                           and has
goes on              at the cursor; with the next epoch, if the one before was        the rest of the epoch, or the
                     broken off                                                       steps that Keras asks for
rolls                at the cursor                                                    `steps` batches
starts again         with batch 0 of epoch 0, and leaves the cursor where it is       the epoch, or the steps

A pass that is resumed has had some of its batches in a process that is gone: it has the others only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from loader_service.protocol.spec import DatasetInfo


class Position(NamedTuple):
    """Where a stream stands."""

    n: int = 0  # the batch that is handed out next
    broken_off: bool = False  # a pass of Keras' came to its end here
    done: int = 0  # batches that the pass which is resumed here has had


@dataclass(frozen=True)
class Pass:
    """A run of batches, counted on where they start again."""

    first: int
    length: int

    @property
    def end(self) -> int:
        """The batch after its last one."""
        return self.first + self.length


@dataclass(frozen=True)
class Passes:
    """How one loop of Keras passes over a dataset."""

    info: DatasetInfo
    steps: int | None = None  # batches of a pass; None: to the end of the epoch
    advance: bool = True  # goes on, or starts again
    rolling: bool = False  # epochs of the dataset mean nothing to it
    stride: int = 1  # batches that Keras takes at once, whether the pass has them or not

    @property
    def epoch(self) -> int:
        """Batches of an epoch."""
        return self.info.batches_per_epoch

    @property
    def longest(self) -> int:
        """Batches of a pass that begins with an epoch."""
        return self._whole(self.steps) if self.steps else self.epoch

    @property
    def cycle(self) -> tuple[int, int] | None:
        """First and last number of what every pass goes over again."""
        return None if self.advance else (0, min(self.longest, self.epoch) - 1)

    def at(self, position: Position) -> Pass:
        """Return the pass that begins there."""
        over = position.done >= self.longest  # passes were longer when it began
        done = 0 if over else position.done
        first = position.n if self.advance else done
        if self.advance and not self.rolling and (position.broken_off or over):
            first = -(-first // self.epoch) * self.epoch
        return Pass(first, self._whole(self.steps - done) if self.steps else self.epoch - first % self.epoch)

    def after(self, before: Pass) -> Pass:
        """Return the pass that follows."""
        return self.at(Position(before.end, broken_off=True))

    def numbers(self, run: Pass) -> Iterator[int]:
        """Yield the batches of a pass."""
        for n in range(run.first, run.end):
            yield n if self.advance else n % self.epoch

    def stretch(self, run: Pass, done: int) -> tuple[int, int]:
        """Return the batch that comes after so many of a pass, and how many of it follow one another from there on."""
        n = run.first + done
        left = run.length - done
        return (n, left) if self.advance else (n % self.epoch, min(left, self.epoch - n % self.epoch))

    def rows_per_sample(self, run: Pass) -> float:
        """Return the rows of some batches for each sample in them: more than 1 where padding is among them."""
        rows = run.length * self.info.batch_size
        return rows / (rows - self.info.padding_before(run.end) + self.info.padding_before(run.first))

    def _whole(self, batches: int) -> int:
        return -(-batches // self.stride) * self.stride
