"""The client's half of the rules: which batches to ask for, what has come, what comes next. No I/O.

    next     the number that is handed out next
    asked    numbers that the daemon knows we want, in the order in which we will want them
    arrived  those of them that are here: a slot, or an error

The window covers `prefetch` numbers from `next` on. Where a stream passes over the same batches again and again
(validation), the number after the last one is the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loader_service.protocol.messages import Failed


@dataclass(frozen=True)
class Arrived:
    """A batch that waits in a slot."""

    slot: int
    rows: int


class Window:
    """What one stream wants, and what it has."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.next = 0
        self.round = 0  # of the last reset: what carries an older one was lent before it
        self.cycle: tuple[int, int] | None = None  # first and last number of batches that are gone over again and again
        self._asked: dict[int, Arrived | Failed | None] = {}

    def reset(self, n: int, cycle: tuple[int, int] | None = None) -> None:
        """Hand out `n` next; all that was asked for is void.

        Args:
            cycle: First and last number of batches to be gone over again and again.
        """
        self.next = n
        self.round += 1
        self.cycle = cycle
        self._asked.clear()

    def is_at(self, n: int, cycle: tuple[int, int] | None) -> bool:
        """Whether `reset` with these arguments would change nothing but void what was asked for."""
        return self.next == n and self.cycle == cycle

    def ask(self) -> list[tuple[int, int]]:
        """Return the ranges (first, last) to ask for now; nothing until a good part of the window is open."""
        if not self.due:
            return []
        ranges: list[tuple[int, int]] = []
        for n in self._numbers():
            if n in self._asked:
                continue
            self._asked[n] = None
            if ranges and ranges[-1][1] == n - 1:
                ranges[-1] = (ranges[-1][0], n)
            else:
                ranges.append((n, n))
        return ranges

    def arrived(self, round_: int, n: int, slot: int, rows: int) -> bool:
        """Take a batch in. Return whether it was wanted; if not, its slot is ours no longer, or must go back."""
        if round_ != self.round or self._asked.get(n, self) is not None:
            return False
        self._asked[n] = Arrived(slot, rows)
        return True

    def failed(self, round_: int, n: int, error: Failed) -> None:
        """Remember an error until its turn comes: the batches before it are handed out first."""
        if round_ == self.round and n in self._asked:
            self._asked[n] = error

    @property
    def due(self) -> bool:
        """Whether `ask` has something to return: a good part of the window is open, or what is next is missing."""
        return self.prefetch - len(self._asked) >= max(1, self.prefetch // 4) or self.next not in self._asked

    @property
    def ready(self) -> bool:
        """Whether `take` has something to return."""
        return self._asked.get(self.next) is not None

    @property
    def waiting(self) -> int:
        """How many batches are here and not handed out."""
        return sum(isinstance(what, Arrived) for what in self._asked.values())

    def take(self) -> Arrived | Failed:
        """Return what is next. A batch moves the cursor; an error does not, and asking again tries again."""
        what = self._asked.pop(self.next)
        assert what is not None, "take() only when ready"
        if isinstance(what, Arrived):
            self.next = self._after(self.next)
        return what

    def take_several(self, most: int) -> list[Arrived] | Failed:
        """Return what is next, and up to `most` - 1 batches that follow and are here, of as many rows."""
        what = self.take()
        if isinstance(what, Failed):
            return what
        several = [what]
        while (
            len(several) < most and isinstance(after := self._asked.get(self.next), Arrived) and after.rows == what.rows
        ):
            self.take()
            several.append(after)
        return several

    def _after(self, n: int) -> int:
        return self.cycle[0] if self.cycle and n == self.cycle[1] else n + 1

    def _numbers(self) -> Iterator[int]:
        """Yield the numbers of the window; each once, also where the window is longer than the cycle."""
        n = self.next
        for _ in range(self.prefetch):
            yield n
            n = self._after(n)
            if n == self.next:
                return
