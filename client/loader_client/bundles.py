"""Small batches, several at a time: what it costs to hand one over to TensorFlow does not depend on how large it is.

TensorFlow calls Python for each element, in a thread of its own that waits for the trainer's to let go of the
interpreter. For tables and the like that takes longer than the batch took to be made. So those that are here already
come in one array for each field, which TensorFlow takes apart by itself: a bundle of the daemon's as it is, single ones
copied. What comes out is the same.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from loader_service.protocol.bundles import SMALL
from loader_service.protocol.spec import DatasetInfo


def is_small(info: DatasetInfo, rows: int) -> bool:
    """Whether batches of so many rows are worth it."""
    return info.alike and rows * sum(field.nbytes for field in info.spec.values()) <= SMALL


def spec_of_bundles(signature: Any) -> Any:
    """Return what bundles look like, given what elements do."""
    return tf.nest.map_structure(lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype), signature)
