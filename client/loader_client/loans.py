"""The slots that an opened stream is lent, and how they come back.

A daemon that died and came back knows nothing of what its predecessor lent: each opening of a stream has loans of its
own. Arrays over the old ones stay valid for as long as anybody holds them, and come back to nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from loader_client.batch import SlotReader
from loader_client.connection import Arrived


class Loans:
    """What one opening of a stream is lent."""

    def __init__(self, slots: SlotReader, views: int, *, hold_back: int, nudge: Callable[[], None]) -> None:
        """Begin with nothing.

        Args:
            views: Batches that may be alive as views; further ones are copied.
            hold_back: Slots that are worth a message of their own.
            nudge: Called when a slot comes back, in any thread and with any lock held.
        """
        self.hold_back = hold_back
        self._slots, self._views, self._nudge = slots, views, nudge
        self._held: list[int] = []  # slots under arrays that are alive, and those in `_returned`
        self._returned: deque[int] = deque()  # slots whose last array is gone; appended to by finalizers

    @property
    def returned(self) -> int:
        """How many slots wait to be given back."""
        return len(self._returned)

    @property
    def held(self) -> list[int]:
        """Slots under arrays that are alive; as often as there are batches over each."""
        return sorted(self._held)

    @property
    def is_full(self) -> bool:
        """Whether so many views are alive that the next batch has to be copied."""
        return len(self._held) - len(self._returned) >= self._views

    def view(self, arrived: Arrived) -> dict[str, Any]:
        """Return fields over a slot; it comes back when the last of them is gone."""
        self._held.append(arrived.slot)
        return self._slots.view(arrived.slot, arrived.rows, partial(self._come_back, arrived.slot))

    def copy(self, arrived: Arrived) -> dict[str, Any]:
        """Return copies of a slot's fields; it comes back at once."""
        copies = self._slots.copy(arrived.slot, arrived.rows)
        self.decline(arrived.slot)
        return copies

    def stack(self, several: list[Arrived]) -> dict[str, np.ndarray]:
        """Return copies of the fields of several slots, one after the other; these come back, and nobody is nudged."""
        slots = [arrived.slot for arrived in several]
        copies = self._slots.stack(slots, several[0].rows)
        self._held += slots
        self._returned += slots
        return copies

    def decline(self, slot: int) -> None:
        """A slot was lent that nobody wants any more."""
        self._held.append(slot)
        self._come_back(slot)

    def pop_returned(self) -> list[int]:
        """Return the slots to give back now; they are not ours any more."""
        slots = []
        while self._returned:
            slots.append(self._returned.popleft())
            self._held.remove(slots[-1])
        return slots

    def _come_back(self, slot: int) -> None:
        """The last array over a slot is gone. Runs in a finalizer: any thread, any lock held."""
        self._returned.append(slot)
        self._nudge()
