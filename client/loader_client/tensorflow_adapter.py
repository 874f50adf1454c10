"""Batches as a `tf.data.Dataset`, without a copy.

TensorFlow takes an aligned, C-contiguous NumPy array as it is, if `from_generator` knows a plain `TensorSpec` for each
leaf; anything else takes the way through `tf.convert_to_tensor`, which copies. It parks references to arrays for a
while: the lease of a batch ends when TensorFlow is done with it, which is what keeps its slot from being refilled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from loader_client.batch import Batch
from loader_client.roles import Roles
from loader_service.protocol.spec import FieldSpec


def dataset_of(
    epoch: Callable[[], Iterator[Batch]], spec: Mapping[str, FieldSpec], roles: Roles, rows: int | None = None
) -> tf.data.Dataset:
    """Return a dataset each pass over which is what `epoch()` yields.

    Args:
        rows: Rows of every batch, where they are all the same: shapes are static then.
    """
    signature = roles.arrange(spec, lambda field: tf.TensorSpec((rows, *field.shape), tf.dtypes.as_dtype(field.dtype)))

    def elements() -> Iterator[Any]:
        for batch in epoch():
            yield roles.arrange(batch)

    dataset = tf.data.Dataset.from_generator(elements, output_signature=signature)
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune: batches are prefetched in shared memory already
    options.threading.private_threadpool_size = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
