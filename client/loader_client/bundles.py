"""Small batches, several at a time: what it costs to hand one over to TensorFlow does not depend on how large it is.

TensorFlow calls Python for each element of `from_generator`, in a thread of its own that waits for the trainer's to let
go of the interpreter. For tables and the like that takes longer than the batch took to be made. So those that are here
already are copied into one array, which TensorFlow takes apart by itself. What comes out is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from loader_service.protocol.spec import Spec

SMALL = 128 * 2**10  # bytes of a batch; to copy larger ones costs as much as it saves
MOST = 16  # batches


def is_small(spec: Spec, rows: int) -> bool:
    """Whether batches of so many rows are worth it."""
    dense = all(field.form == "dense" and not field.varies for field in spec.values())
    return dense and rows * sum(field.nbytes for field in spec.values()) <= SMALL


class Bundles(Iterator[Any]):
    """Elements, stacked: up to MOST of them that are there without waiting, and are all of one shape.

    One that is alone is not copied. An error waits until those before it are handed out.
    """

    def __init__(self, elements: Iterable[Any], ready: Callable[[], bool]) -> None:
        """Begin.

        Args:
            ready: Whether the next element is there.
        """
        self._elements, self._ready = iter(elements), ready
        self._next: Any = None  # one of another shape than those that were handed out
        self._error: Exception | None = None

    def __next__(self) -> Any:
        """Return the next ones."""
        if self._error is not None:
            raise self._error
        element, self._next = next(self._elements) if self._next is None else self._next, None
        if not self._ready():
            return tf.nest.map_structure(lambda leaf: leaf[None], element)
        room = tf.nest.map_structure(lambda leaf: np.empty((MOST, *leaf.shape), leaf.dtype), element)
        count = 0
        while element is not None:
            for place, leaf in zip(tf.nest.flatten(room), tf.nest.flatten(element), strict=True):
                place[count] = leaf
            count += 1
            element = self._another(element) if count < MOST and self._ready() else None
        return tf.nest.map_structure(lambda place: place[:count], room)

    def _another(self, before: Any) -> Any:
        """Return the next element; None if there is none, or it does not go with the one before."""
        try:
            element = next(self._elements)
        except StopIteration:
            return None
        except Exception as error:
            self._error = error
            return None
        if _shapes(element) == _shapes(before):
            return element
        self._next = element
        return None


def _shapes(element: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in tf.nest.flatten(element)]


def spec_of_bundles(signature: Any) -> Any:
    """Return what bundles look like, given what elements do."""
    return tf.nest.map_structure(lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype), signature)
