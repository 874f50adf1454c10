"""Batches as a `tf.data.Dataset`, without a copy.

TensorFlow takes an aligned, C-contiguous NumPy array as it is, if `from_generator` knows a plain `TensorSpec` for each
leaf; anything else takes the way through `tf.convert_to_tensor`, which copies. It parks references to arrays for a
while: the lease of a batch ends when TensorFlow is done with it, which is what keeps its slot from being refilled.
"""

from __future__ import annotations

import atexit
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from loader_client.bundles import spec_of_bundles
from loader_client.generated import generated
from loader_client.roles import Roles
from loader_service.protocol.errors import StreamClosed
from loader_service.protocol.ragged import Ragged, Text
from loader_service.protocol.spec import FieldSpec

if TYPE_CHECKING:
    from loader_client.stream import Stream

# Iterators end up in cycles of Keras' and TensorFlow's. One that is destroyed when Python is gone already, while a
# thread of TensorFlow's is about to call its generator, waits for that for ever: the process would not end.
atexit.register(gc.collect)


def signature_of(stream: Stream, roles: Roles, weights: FieldSpec | None = None) -> Any:
    """Return what the elements of a dataset look like; shapes are static where all batches have the same rows.

    Args:
        weights: Of what stands in for the field of weights.
    """
    rows = stream.rows_of_all
    return roles.arrange(stream.spec, lambda field: _spec_of(field, rows), weights)


def _spec_of(field: FieldSpec, rows: int | None) -> Any:
    if field.form == "text":
        return tf.TensorSpec((rows,), tf.string)
    dtype = tf.dtypes.as_dtype(field.dtype)
    if field.form == "ragged":
        return tf.RaggedTensorSpec((rows, *field.shape), dtype, ragged_rank=1, row_splits_dtype=tf.int64)
    return tf.TensorSpec((rows, *field.shape), dtype)


def tensor_of(value: Any) -> Any:
    """Return what TensorFlow takes: an array as it is, a `RaggedTensor`, strings."""
    if isinstance(value, Text):
        return np.asarray(value.encoded(), object)
    if isinstance(value, Ragged):
        return tf.RaggedTensor.from_row_splits(value.values, value.row_splits, validate=False)
    return value


def dataset_of(
    elements: Callable[[], Iterator[Any]],
    signature: Any,
    batches: int | None = None,
    bundled: bool = False,
    ahead: bool = False,
) -> tf.data.Dataset:
    """Return a dataset each pass over which is what `elements()` yields.

    Args:
        batches: Of a whole pass, where that is known.
        bundled: Whether `elements()` yields bundles of them.
        ahead: Whether the next one is drawn while the trainer computes.
    """
    # TensorFlow keeps the functions of a dataset for as long as the process lives: theirs must not keep the stream.
    kept = weakref.ref(elements)

    def begin() -> Iterator[Any]:
        alive = kept()
        if alive is None:
            raise StreamClosed("the tf.data.Dataset that was made of this stream is gone: keep it while you iterate")
        return alive()

    drawn = spec_of_bundles(signature) if bundled else signature
    dataset = generated(begin, drawn)
    dataset = dataset.prefetch(1) if ahead else dataset
    dataset = dataset.unbatch() if bundled else dataset
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune: batches are prefetched in shared memory already
    options.threading.private_threadpool_size = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = dataset.with_options(options)
    dataset.elements = elements  # whatever is made of this dataset keeps it, and with it the stream
    if batches is not None:
        # Not assert_cardinality: a pass that goes on in mid-epoch is shorter, which is no error.
        dataset.cardinality = lambda: tf.constant(batches, tf.int64)
    return dataset
