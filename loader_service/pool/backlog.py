"""What waits of one dataset, and how it is cut into tasks. Rules only: no socket, clock or process.

    job      the rows of one slot, until each is filled or has failed
    piece    a range of rows of one job
    task     some pieces, given to one worker: part of a large batch, or a run of several small ones

A task is cut to take some milliseconds, by the time that earlier rows took; but never to more than a fair share of what
is waiting, so that the workers finish a batch together.

Where a batch is made out of its rows when all of them are there, its finish counts as one more row, the last one. It is
part of the piece that has all the rows, and a piece of its own from when they are cut.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from loader_service.protocol.messages import Failed

SHORTEST = 0.002  # seconds; below this, messages cost more than they bring
LONGEST = 0.032  # seconds; beyond, workers would end a batch at times that differ
LONG = 0.2  # seconds; before, no task is late, and others may wait behind it
LATE_TIMES = 20  # what a task takes beyond what was expected of it, before it is late
NEWEST = 0.3  # what the last task counts for, in how long a row takes


@dataclass(eq=False)
class Job:
    """The rows of one slot."""

    dataset: int
    arena: int
    slot: int
    n: int
    rows: int  # its finish included
    missing: int  # rows neither filled nor failed
    finish: bool = False  # its last row is made out of all the others
    held: bool = False  # that row was cut off, and waits for them
    error: Failed | None = None  # nobody needs its rows: they cannot be made, or another attempt was first
    rival: Job | None = None  # the other attempt at the same batch, in another slot


@dataclass(eq=False)
class Piece:
    """Rows start .. stop - 1 of a job."""

    job: Job
    start: int
    stop: int
    raised: dict[int | None, int] = field(default_factory=dict)  # sample -> times that it ended its making
    deaths: int = 0  # workers that died at it, while it was all that they had, and one row long
    losses: int = 0  # those, and the ones that died before
    suspect: bool = False  # its worker died: it must run alone
    blame: str = ""  # what is said of its sample, once that is to be named

    def acquit(self) -> None:
        """Count what speaks against it anew."""
        self.deaths, self.losses, self.blame = 0, 0, ""

    def hold_finish(self) -> bool:
        """Leave the batch's finish out, before it is cut. Return whether it was in there."""
        if not self.has_finish:
            return False
        self.stop -= 1
        self.job.held = True
        return True

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start

    @property
    def has_finish(self) -> bool:
        """Whether it has all rows of a batch, and what is made of them."""
        return self.job.finish and self.start == 0 and self.stop == self.job.rows


class Backlog:
    """The pieces of one dataset that wait for a worker, oldest first, and how long its rows take."""

    def __init__(self, *, pinned: bool = False) -> None:
        """Begin with nothing.

        Args:
            pinned: One worker at a time makes all of it, in the order in which it is asked for: it is read live.
        """
        self.pinned = pinned
        self.worker: int | None = None  # that one
        self._pieces: deque[Piece] = deque()
        self._rows = 0  # of them
        self._row_seconds: float | None = None  # what a row takes, smoothed

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def pieces(self) -> Iterable[Piece]:
        """What waits, oldest first."""
        return self._pieces

    @property
    def first(self) -> Piece:
        """What waits longest."""
        return self._pieces[0]

    def append(self, piece: Piece) -> None:
        """Have it made after all others."""
        self._pieces.append(piece)
        self._rows += piece.rows

    def put_back(self, piece: Piece) -> None:
        """Have it made before all others."""
        self._pieces.appendleft(piece)
        self._rows += piece.rows

    def drop(self, job: Job) -> list[Piece]:
        """Take back what waits of a job, and return it."""
        dropped = [piece for piece in self._pieces if piece.job is job]
        for piece in dropped:
            self._pieces.remove(piece)
            self._rows -= piece.rows
        return dropped

    def cut(self, workers: int) -> list[Piece]:
        """Take off the pieces of one task, for one of so many workers. Something waits."""
        queue, wanted = self._pieces, self._task_rows(workers)
        pieces: list[Piece] = []
        while queue and wanted > 0:
            piece = queue[0]
            large = piece.rows - piece.has_finish >= 1.5 * wanted
            alone = piece.suspect or large  # by itself, or cut: then it is all of the task
            if pieces and alone:
                break
            if large and not piece.suspect:
                self._rows -= piece.hold_finish()
                queue[0] = Piece(piece.job, piece.start + wanted, piece.stop, piece.raised)
                piece.stop = piece.start + wanted
            else:
                queue.popleft()
            self._rows -= piece.rows
            pieces.append(piece)
            if alone:
                break
            wanted -= piece.rows
        return pieces

    def took(self, seconds: float, rows: int) -> None:
        """A task of so many rows took so long."""
        if not rows:
            return
        row_seconds = seconds / rows
        before = row_seconds if self._row_seconds is None else self._row_seconds
        self._row_seconds = before + NEWEST * (row_seconds - before)

    def is_late(self, pieces: Iterable[Piece], seconds: float) -> bool:
        """Whether a task that has taken so long takes far longer than was to be expected."""
        if self._row_seconds is None:
            return False
        return seconds > max(LONG, LATE_TIMES * self._row_seconds * sum(piece.rows for piece in pieces))

    def _task_rows(self, workers: int) -> int:
        """Return how many rows the next task should have."""
        if self._row_seconds is None:  # nothing known: the first batch is made by all workers together
            return max(1, math.ceil(self.first.job.rows / workers))
        row_seconds = max(self._row_seconds, 1e-9)
        share = self._rows / (2 * workers)
        return max(1, math.ceil(min(max(share, SHORTEST / row_seconds), LONGEST / row_seconds)))
