"""A stream as Keras' own `DataAdapter`: `fit`, `evaluate` and `predict` take it as it is.

Keras draws ahead of what it trains on, and starts and ends iterators as it sees fit; what it says reliably is when
an epoch begins. So the adapter counts those, and never draws: each pass is one epoch of the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from loader_client.batch import Batch
from loader_client.roles import Roles

if TYPE_CHECKING:
    import tensorflow as tf

    from loader_client.stream import Stream


class StreamAdapter(DataAdapter):  # type: ignore[misc]
    """What `stream.keras()` returns."""

    def __init__(self, stream: Stream, roles: Roles, *, steps: int | None, advance: bool | None) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps}, expected at least 1 batch an epoch")
        self._stream = stream
        self._roles = roles
        self._steps = steps
        self._advance = stream.shuffled if advance is None else advance
        self._passes = 0
        self._left_at: int | None = None  # where the last pass left the cursor

    # -- what Keras asks -------------------------------------------------------------------------------------

    @property
    def num_batches(self) -> int:
        """Batches of one pass."""
        return self._steps or len(self._stream)

    @property
    def batch_size(self) -> int:
        """Rows of a whole batch."""
        return self._stream.batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Whether an epoch's last batch is short."""
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        """Rows of an epoch's last batch, if it is short."""
        rest = self._stream.rows(len(self._stream) - 1)
        return rest if rest < self._stream.batch_size else None

    def on_epoch_begin(self) -> None:
        """A pass begins."""
        self._passes += 1

    def on_epoch_end(self) -> None:
        """Said more often than passes end: ignored."""

    def get_tf_dataset(self) -> tf.data.Dataset:
        """Return the passes as a `tf.data.Dataset`."""
        from loader_client.tensorflow_adapter import dataset_of

        return dataset_of(self._pass, self._stream.spec, self._roles, self._static_rows())

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Return a pass as arrays."""
        return (self._roles.arrange(batch) for batch in self._pass())

    get_jax_iterator = get_numpy_iterator

    def get_torch_dataloader(self) -> Any:
        """Return a pass as torch tensors: writable copies, since torch knows no read-only memory."""
        from keras.src.trainers.data_adapters.data_adapter_utils import get_torch_dataloader

        return get_torch_dataloader(self.get_numpy_iterator())

    # -- passes ----------------------------------------------------------------------------------------------

    def _static_rows(self) -> int | None:
        return None if self.has_partial_batch else self._stream.batch_size

    def _pass(self) -> Iterator[Batch]:
        """Yield the batches of the pass that Keras is in; of the next one, where Keras goes on with this iterator."""
        while True:
            current = self._passes
            numbers = self._numbers()
            cycle = None if self._advance else (numbers.start, numbers.stop - 1)
            for n in numbers:
                if self._passes != current:
                    break
                batch = self._stream.take(n, cycle)
                self._left_at = self._stream.cursor
                yield batch
            if self._passes == current:
                return

    def _numbers(self) -> range:
        """Return the batches of the pass that begins now."""
        if not self._advance:
            return range(self.num_batches)
        cursor, epoch = self._stream.cursor, len(self._stream)
        if self._steps is not None:
            return range(cursor, cursor + self._steps)
        if cursor == self._left_at and cursor % epoch:  # the last pass was broken off: the next one is the next epoch
            cursor += epoch - cursor % epoch
        return range(cursor, (cursor // epoch + 1) * epoch)
