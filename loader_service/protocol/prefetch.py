"""How many slots one stream takes: the batches that it asks for ahead, those that it keeps, and some on their way."""

from __future__ import annotations

from loader_service.protocol.spec import DatasetInfo

LEAST_AHEAD, MOST_AHEAD = 8, 64  # batches that a stream asks for ahead, unless it says how many
AHEAD_NBYTES = 128 * 2**20  # that they may take, if they are more than the least
VIEWS = 6  # batches that one stream may keep as views; TensorFlow and Keras hold up to five
SPARE_SLOTS = 2  # that are on their way while every stream holds all that it may


def suggested_prefetch(slot_nbytes: int, batches_per_epoch: int) -> int:
    """Return how many batches to ask for ahead: small ones are made in less time than it takes to ask for them.

    Each worker has tasks of some milliseconds, and one more that waits: with a few batches ahead, others are idle.
    No more than an epoch has, beyond the least: a user's object is led through one epoch after the other.

    >>> suggested_prefetch(2**22, 1000), suggested_prefetch(2**14, 1000), suggested_prefetch(2**30, 1000)
    (32, 64, 8)
    """
    affordable = min(MOST_AHEAD, AHEAD_NBYTES // slot_nbytes, batches_per_epoch)
    return max(LEAST_AHEAD, affordable)


def prefetch_of(wanted: int, slot_nbytes: int, info: DatasetInfo) -> int:
    """Return how many batches, or bundles of them, a stream asks for ahead that would like so many batches.

    Of bundles no fewer than the least: they are small, and each worker has some at hand.

    Args:
        wanted: Batches; 0 for as many as seem right.
        info: Of the batches, or of bundles.
    """
    if info.bundle > 1:
        return max(LEAST_AHEAD, -(-(wanted or MOST_AHEAD) // info.bundle))
    return wanted or suggested_prefetch(slot_nbytes, info.batches_per_epoch)


def slots_of(prefetch: int) -> int:
    """Return how many slots a stream is given that asks for so many batches ahead, where memory allows it.

    >>> slots_of(8)
    16
    """
    return prefetch + VIEWS + SPARE_SLOTS
