"""How much shared memory there may be, and how many slots fit into it.

Pages of a memfd are charged to the daemon's control group, where the failure is not an error but the OOM killer: so
the room is looked up before an arena is made, not found out.
"""

from __future__ import annotations

from loader_service.machine import available_memory
from loader_service.protocol.errors import NotEnoughMemory

LEAST_SLOTS = 2  # one to read, one to fill
MOST_STREAMS = 16  # as large as the first one: for so many there is room in an arena's address space


def default_limit() -> int:
    """Return the bytes that all arenas may take unless the owner says otherwise: half of what is free."""
    return max(0, available_memory() // 2)


def choose_slots(slot_nbytes: int, wanted: int, *, limit: int, used: int, available: int) -> int:
    """Return how many slots an arena gets: those that are wanted, or as many as fit, at least two.

    >>> choose_slots(2**20, 14, limit=2**30, used=0, available=2**32)
    14
    >>> choose_slots(2**20, 14, limit=10 * 2**20, used=0, available=2**32)
    10

    Raises:
        NotEnoughMemory: If two slots do not fit; says what is needed, what there is, and which setting mends it.
    """
    room = min(limit - used, available)
    slots = min(wanted, room // slot_nbytes)
    if slots >= LEAST_SLOTS:
        return slots
    needed = LEAST_SLOTS * slot_nbytes
    if limit - used <= available:
        cause = f"the daemon's limit leaves {mebibytes(max(0, limit - used))} of {mebibytes(limit)}"
        remedy = "Start it with a larger --memory, or make batches smaller with .batch(size)."
    else:
        cause = f"the machine (or the container) has {mebibytes(max(0, available))} left"
        remedy = "Make batches smaller with .batch(size), or give the container more memory."
    raise NotEnoughMemory(
        f"two slots of {mebibytes(slot_nbytes)} need {mebibytes(needed)} of shared memory, and {cause}. {remedy}"
    )


def mebibytes(nbytes: int) -> str:
    """Return a size for people.

    >>> mebibytes(3 * 2**19)
    '1.5 MiB'
    """
    return f"{nbytes / 2**20:,.1f} MiB"
