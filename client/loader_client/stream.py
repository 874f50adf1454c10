"""`Stream`: what a training loop iterates; one cursor, and the ways to hand it to a framework."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from loader_client.batch import Batch, Bundle
from loader_client.passes import Position
from loader_client.replaced import tell_since
from loader_client.roles import Names, Roles
from loader_client.state import number_in, refuse_live, state_of
from loader_client.supply import Cycle, Supply
from loader_service.protocol.errors import DatasetError, StreamClosed
from loader_service.protocol.ledger import BadSample
from loader_service.protocol.messages import MOST_BATCHES
from loader_service.protocol.spec import FieldSpec, describe

if TYPE_CHECKING:
    import tensorflow as tf

    from loader_client.backup_callback import BackupCallback
    from loader_client.keras_adapter import StreamAdapter
    from loader_client.row_weights import ClassWeights
    from loader_client.torch_adapter import TorchDataset

CLOSED = "the stream was closed: open another with loader.stream(dataset)"


class Closeable(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Close it."""


class Stream:
    """Batches of one dataset, in order.

    `iter(stream)` runs from the cursor to the end of the epoch; the next one goes on with the next epoch.
    """

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._position = Position()
        self.fed: Roles | None = None  # what Keras' latest loop takes of it
        self._closed: str | None = None  # why
        self._owned: Closeable | None = None
        self._turn = threading.RLock()  # several threads on one stream get a batch each
        weakref.finalize(self, supply.close).atexit = False

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def spec(self) -> dict[str, FieldSpec]:
        """Shape (without the batch axis) and dtype of each field."""
        return dict(self._supply.info.spec)

    @property
    def key(self) -> str:
        """The dataset's key: equal keys are equal batches."""
        return self._supply.info.key

    @property
    def batch_size(self) -> int:
        """Rows of a whole batch; of this stream's shard of it, where it has one."""
        return len(self._supply.shard.of(self._supply.info.batch_size))

    def rows(self, n: int) -> int:
        """Return how many rows batch `n` has, padding included."""
        return len(self._supply.shard.of(self._supply.info.rows(n)))

    @property
    def rows_of_all(self) -> int | None:
        """How many rows every batch has; None where that differs."""
        alike = not self._supply.info.whole and self.rows(len(self) - 1) == self.batch_size
        return self.batch_size if alike else None

    @property
    def samples(self) -> int:
        """Samples of the dataset."""
        return self._supply.info.samples

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that labels count, where the source knows them."""
        return list(self._supply.info.class_names)

    @property
    def shuffled(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self._supply.info.shuffled

    @property
    def replaced(self) -> list[BadSample]:
        """Samples that cannot be made, in whose place others stand: each with `id`, `file` and `reason`."""
        return list(self._supply.ledger)

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self._supply.info.batches_per_epoch

    def __repr__(self) -> str:
        epoch, batch = divmod(self.cursor, len(self))
        return (
            f"<Stream of {self.samples:,} samples, {len(self):,} batches of {self.batch_size}{self._part()} "
            f"({describe(self.spec)}); next: batch {batch} of epoch {epoch}>"
        )

    def _part(self) -> str:
        shard = self._supply.shard
        return f", shard {shard.rank} of {shard.count}" if shard.count > 1 else ""

    def stats(self) -> dict[str, float]:
        """Return how many batches were handed out, how long the reader waited for them (seconds), and more."""
        return self._supply.stats()

    # -- iterating -------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Run from the cursor to the end of its epoch."""
        end = (self.cursor // len(self) + 1) * len(self)
        return _Epoch(self, end)

    def take(self, n: int, cycle: Cycle = None) -> Batch:
        """Return batch `n` and move the cursor behind it; `cycle` as in `peek`."""
        self._refuse(n)
        with self._turn:
            return self._take(int(n), cycle)

    def next_before(self, end: int) -> Batch | None:
        """Return the next batch; None if that is `end`."""
        self._supply.refuse_fork()
        with self._turn:
            n = self._position.n
            if n >= end:
                return None
            self._refuse(n)
            return self._take(n, None)

    def _take(self, n: int, cycle: Cycle) -> Batch:
        batch = self._supply.take(n, cycle)
        self._position = Position(n + 1)
        return batch

    def peek(self, n: int, cycle: Cycle = None) -> Batch:
        """Return batch `n`; the cursor stays where it is.

        Args:
            cycle: First and last number, where one goes over the same batches again and again.
        """
        self._refuse(n)
        with self._turn:
            return self._supply.take(int(n), cycle)

    def peek_several(self, n: int, most: int, cycle: Cycle = None) -> Bundle:
        """Return batch `n`, and up to `most` - 1 that follow it and are here already; the cursor stays where it is.

        A batch that is short is never with others.

        Raises:
            DatasetError: If batches differ in shape beyond that: take them one by one.
        """
        self._refuse(n)
        if not self._supply.info.alike:
            raise DatasetError("batches of this dataset differ in shape, and cannot be stacked: take them one by one")
        with self._turn:
            return self._supply.take_several(int(n), most, cycle)

    def _refuse(self, n: int) -> None:
        if self._closed:
            raise StreamClosed(self._closed)
        if not isinstance(n, Integral) or not 0 <= n <= MOST_BATCHES:
            raise ValueError(f"batch {n!r}: batches count from 0 to 2**62 - 1")
        self._supply.refuse_fork()

    def generator(self, inputs: Names = None, targets: Names = None, weights: str | None = None) -> Iterator[Any]:
        """Yield (x, y), or (x, y, w), for ever: epoch after epoch, from the cursor on."""
        roles = self.roles(inputs, targets, weights)
        while True:
            yield roles.arrange(self.take(self.cursor))

    def tf_data(self, inputs: Names = None, targets: Names = None, weights: str | None = None) -> tf.data.Dataset:
        """Return a `tf.data.Dataset` of (x, y), or (x, y, w): each pass over it is one epoch, from the cursor on.

        Tensors lie over the shared memory; nothing is copied. A ragged field is a `tf.RaggedTensor`, one of strings
        a `tf.string`.
        """
        from loader_client.tensorflow_adapter import dataset_of, signature_of, tensor_of

        roles = self.roles(inputs, targets, weights).without_lists()
        return dataset_of(
            lambda: (roles.arrange(batch, tensor_of) for batch in self), signature_of(self, roles), len(self)
        )

    def torch(self, inputs: Names = None, targets: Names = None, weights: str | None = None) -> TorchDataset:
        """Return a torch `IterableDataset` of (x, y), or (x, y, w): each pass over it is one epoch, from the cursor on.

        Tensors are writable copies, in pinned memory where CUDA is available. For
        `DataLoader(..., batch_size=None, num_workers=0)`.
        """
        from loader_client.torch_adapter import TorchDataset, tensor_of

        roles = self.roles(inputs, targets, weights)
        return TorchDataset(lambda: (roles.arrange(batch, tensor_of) for batch in self), len(self))

    def keras(
        self,
        inputs: Names = None,
        targets: Names = None,
        weights: str | None = None,
        *,
        class_weight: ClassWeights | None = None,
        steps: int | None = None,
        advance: bool | None = None,
    ) -> StreamAdapter:
        """Return what `model.fit`, `evaluate` and `predict` take as `x`.

        Args:
            class_weight: Class id -> what its samples weigh; those of other classes weigh 1. "balanced": all classes
                count alike, as often as each comes; needs labels that the source knows without reading files.
            steps: Batches of a training epoch; None for those of the dataset.
            advance: Whether each pass goes on to the next epoch, or sees epoch 0 again (validation) and leaves the
                cursor alone. By default it goes on where the dataset is shuffled, or `steps` is given.
        Raises:
            DatasetError: If a field that is named does not exist, or class weights do not fit the targets.
        """
        from loader_client.keras_adapter import StreamAdapter
        from loader_client.row_weights import RowWeights

        info, roles = self._supply.info, self.roles(inputs, targets, weights)
        row_weights = RowWeights.of(info, roles, class_weight)
        return StreamAdapter(self, info, roles, row_weights, steps=steps, advance=advance)

    def roles(self, inputs: Names = None, targets: Names = None, weights: str | None = None) -> Roles:
        """Return which fields are inputs, targets and weights."""
        return Roles.of(self._supply.info, inputs, targets, weights)

    # -- state -----------------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """The number of the batch that is handed out next, counted from 0 over all epochs."""
        return self._position.n

    @property
    def position(self) -> Position:
        """The cursor, and what it means to passes of Keras'."""
        return self._position

    def move(self, n: int, broken_off: bool = False, done: int = 0) -> None:
        """Hand out batch `n` next; what else there is to a position is for passes of Keras'."""
        self._position = Position(n, broken_off, done)

    def state_dict(self) -> dict[str, Any]:
        """Return the stream's state: plain JSON, some hundred bytes at any batch.

        Raises:
            DatasetError: If the dataset is read live.
        """
        refuse_live(self._supply.info)
        ledger = {"ledger": self._supply.ledger.hash} if len(self._supply.ledger) else {}
        return {**state_of(self._supply.info, self.cursor), **ledger}

    def load_state_dict(self, state: dict[str, Any], *, strict: bool = True) -> None:
        """Go on where `state_dict` was taken; at once, however far that is.

        Samples that are replaced since are told in a warning.

        Args:
            strict: Refuse a state of another dataset. Otherwise the number of its batch is taken, whatever batch that
                is here.
        Raises:
            DatasetError: If it is no state, or that of another dataset: says what has changed.
        """
        n = number_in(state, self._supply.info, strict=strict)
        tell_since(self._supply.ledger, str(state.get("ledger") or ""))
        self.move(n)

    def backup_callback(
        self,
        path: str | os.PathLike[str],
        every: int | Literal["epoch"] = "epoch",
        *,
        save: bool = True,
        strict: bool = True,
    ) -> BackupCallback:
        """Return what stands in for Keras' `BackupAndRestore`: a `fit` that was killed goes on where it was.

        A backup holds weights, optimizer, random seeds and the stream's state, in one atomic step on disk. The last
        two are kept, also when training has ended. It is the last in `callbacks` of `fit(stream.keras(), ...)`.

        Args:
            path: A folder for the backups of this training, and of no other.
            every: Batches from one backup to the next, or "epoch" for one at the end of each.
            save: False where another process saves for this one: of data-parallel trainers, one saves and all restore.
            strict: Refuse a backup of another dataset, as `load_state_dict` does.
        Raises:
            ValueError: If `every` is neither.
        """
        from loader_client.backup_callback import BackupCallback

        return BackupCallback(self, path, every, save=save, strict=strict)

    def close(self, why: str = CLOSED) -> None:
        """Ask for nothing any more. Arrays that are alive stay valid, and keep their slots until they are gone."""
        if self._closed is None:
            self._closed = why
            self._supply.close()
            if self._owned is not None:
                self._owned.close()

    def own(self, connection: Closeable) -> None:
        """Close the connection that this stream was opened over together with it."""
        self._owned = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class _Epoch(Iterator[Batch]):
    """The rest of one epoch."""

    def __init__(self, stream: Stream, end: int) -> None:
        self._stream, self._end = stream, end

    def __next__(self) -> Batch:
        batch = self._stream.next_before(self._end)
        if batch is None:
            raise StopIteration
        return batch
