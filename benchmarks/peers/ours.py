"""loader-service: a private daemon, with two workers unless another number is asked for; plain iteration or `fit`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.arms import Epochs
from benchmarks.work import Work


def epochs(work: Work, workers: int = 2) -> Epochs:
    import loader_client

    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(work.dataset(), prefetch=work.prefetch)
        while True:
            yield (tuple(batch.values()) for batch in stream)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    import loader_client

    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(work.dataset(), prefetch=work.prefetch)
        yield stream.keras(), len(stream)  # one iterator through all epochs, as tf.data's arm has it
