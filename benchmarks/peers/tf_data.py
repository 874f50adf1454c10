"""tf.data, with TensorFlow's own operations only, in two threads.

Its best: parallel `map`, order given up where nobody needs it, `prefetch` last. For gathers, batches of ids, and one
`tf.gather` of each from an array that is in memory: ten times faster than rows one by one. Endless is `repeat` before
`map`, as fast as it gets; finite is what `fit` is given most often, and starts an iterator for each epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.arms import Epochs, cut
from benchmarks.work import Work


def does(work: Work) -> bool:
    return work.says("tf_batch" if work.gathers else "tf_sample")


def dataset(work: Work, *, endless: bool) -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.deterministic = not work.shuffled
    if work.gathers:
        ids = tf.data.Dataset.counter() if endless else tf.data.Dataset.range(1)
        batches = ids.flat_map(lambda _: work.tf_batches_of_ids()).map(work.tf_batch, num_parallel_calls=2)
    else:
        samples = tf.data.Dataset.from_tensor_slices(work.tf_columns())
        samples = samples.shuffle(work.samples) if work.shuffled else samples
        samples = samples.repeat() if endless else samples
        batches = samples.map(work.tf_sample, num_parallel_calls=2).batch(work.rows, drop_remainder=endless)
    return batches.prefetch(work.prefetch).with_options(options)


def epochs(work: Work, *, endless: bool) -> Epochs:
    batches = dataset(work, endless=endless)
    if endless:
        yield from cut(batches.as_numpy_iterator(), work.whole_batches)
    while True:
        yield batches.as_numpy_iterator()


@contextlib.contextmanager
def fit_data(work: Work, *, endless: bool) -> Iterator[tuple[Any, int | None]]:
    yield dataset(work, endless=endless), work.whole_batches if endless else None
