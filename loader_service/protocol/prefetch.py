"""How many slots one stream takes: the batches that it asks for ahead, those that it keeps, and some on their way."""

from __future__ import annotations

DEFAULT_PREFETCH = 8  # batches that a stream asks for ahead, unless told otherwise
VIEWS = 4  # batches that one stream may keep as views; TensorFlow and Keras hold up to three
SPARE_SLOTS = 2  # that are on their way while every stream holds all that it may


def slots_of(prefetch: int) -> int:
    """Return how many slots a stream is given that asks for so many batches ahead, where memory allows it.

    >>> slots_of(DEFAULT_PREFETCH)
    14
    """
    return prefetch + VIEWS + SPARE_SLOTS
