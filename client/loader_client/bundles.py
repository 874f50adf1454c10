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
        places, leaves = tf.nest.flatten(room), tf.nest.flatten(element)
        del element  # it lies in a slot, which is wanted again
        count = 0
        while leaves:
            for place, leaf in zip(places, leaves, strict=True):
                place[count] = leaf
            count += 1
            leaves = self._another(places) if count < MOST and self._ready() else []
        return tf.nest.map_structure(lambda place: place[:count], room)

    def _another(self, places: list[np.ndarray]) -> list[Any]:
        """Return what the next element is made of; nothing if there is none, or it does not fit into these places."""
        try:
            element = next(self._elements)
        except StopIteration:
            return []
        except Exception as error:
            self._error = error
            return []
        leaves: list[Any] = tf.nest.flatten(element)
        if all(leaf.shape == place.shape[1:] for leaf, place in zip(leaves, places, strict=True)):
            return leaves
        self._next = element
        return []


def spec_of_bundles(signature: Any) -> Any:
    """Return what bundles look like, given what elements do."""
    return tf.nest.map_structure(lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype), signature)
