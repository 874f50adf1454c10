"""A stream as Keras' own `DataAdapter`: `fit`, `evaluate` and `predict` take it as it is.

Keras draws ahead of what it trains on, peeks at a batch to build a model, and starts and ends iterators as it sees
fit. So what is drawn says nothing. Two things that Keras does tell all:

    on_epoch_begin()                 a pass begins
    steps seen >= num_batches        asked before each step of a pass, and after the last

`num_batches` is an int that listens when it is compared: so the cursor follows what the model has got.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 7):  # they take no DataAdapter
    raise ImportError(
        f"stream.keras() needs Keras 3.7 or newer, this is {keras.__version__}: upgrade it, or use stream.tf_data()"
    )

from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.epoch_iterator import EpochIterator

from loader_client.batch import Batch, Bundle
from loader_client.passes import Pass, Passes
from loader_client.roles import Roles
from loader_client.row_weights import RowWeights
from loader_service.protocol.bundles import MOST
from loader_service.protocol.spec import DatasetInfo

if TYPE_CHECKING:
    import tensorflow as tf

    from loader_client.stream import Stream

INSTEAD = {  # arguments of `fit` that Keras would drop without a word
    "y": "targets=",
    "sample_weight": "weights=",
    "class_weight": "class_weight=",
}


class StreamAdapter(DataAdapter):  # type: ignore[misc]
    """What `stream.keras()` returns."""

    def __init__(
        self,
        stream: Stream,
        info: DatasetInfo,
        roles: Roles,
        row_weights: RowWeights | None,
        *,
        steps: int | None,
        advance: bool | None,
    ) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps is {steps}, expected at least 1 batch an epoch")
        self._stream = stream
        self._info = info
        self._roles = roles
        self._row_weights = row_weights
        self._steps = steps
        # Who counts epochs in steps trains; everybody else sees the same again where the order is always the same.
        self._advance = (info.shuffled or steps is not None) if advance is None else advance
        self._ids: list[NDArray[np.int64]] = []  # of the latest pass that does not train
        self._loops: weakref.WeakKeyDictionary[EpochIterator, _Loop] = weakref.WeakKeyDictionary()

    # -- what Keras asks -------------------------------------------------------------------------------------

    @property
    def num_batches(self) -> int:
        """Batches of one pass."""
        loop = self._loop()
        loop.rewind()  # asked when a loop is made, and when it is reset after a peek
        return _Length(loop)

    @property
    def batch_size(self) -> int | None:
        """Rows of a whole batch; None where they are known only when it is made."""
        return None if self._info.whole else self._stream.batch_size

    @property
    def ids(self) -> NDArray[np.int64]:
        """Samples of the latest pass of `predict` or `evaluate`, one for each row; -1 in padding.

        `dataset.names(ids)` tells their files.
        """
        return np.concatenate(self._ids) if self._ids else np.empty(0, np.int64)

    @property
    def has_partial_batch(self) -> bool:
        """Whether an epoch's last batch is short."""
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        """Rows of an epoch's last batch, if it is short."""
        return None if self._info.whole or self._stream.rows_of_all else self._stream.rows(len(self._stream) - 1)

    def on_epoch_begin(self) -> None:
        """A pass begins."""
        run = self._loop().begin()
        caller = _caller(1)
        if caller is not None and caller.steps_per_epoch is not None:
            caller.steps_per_epoch = run.length  # a pass that is resumed has fewer: of those, Keras would warn

    def on_epoch_end(self) -> None:
        """Said more often than passes end: ignored."""

    def get_tf_dataset(self) -> tf.data.Dataset:
        """Return the passes as a `tf.data.Dataset`."""
        from loader_client.bundles import is_small
        from loader_client.tensorflow_adapter import dataset_of, signature_of

        loop = self._loop()
        weights = self._row_weights.spec if self._row_weights else None
        roles = self._roles.without_lists()
        by_keras = _caller(1) is not None  # which says how far it is, however much is drawn
        bundled = by_keras and is_small(self._info, self._stream.batch_size)

        def elements() -> Iterator[Any]:
            return self._pass_in_bundles(loop, roles) if bundled else self._pass(loop, roles)

        signature = signature_of(self._stream, roles, weights)
        return dataset_of(elements, signature, bundled=bundled, ahead=by_keras)

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Return a pass as arrays."""
        return self._pass(self._loop(), self._roles)

    def get_jax_iterator(self) -> Iterator[Any]:
        """Return a pass as arrays: JAX takes aligned ones as they are."""
        return self._pass(self._loop(), self._roles)

    def get_torch_dataloader(self) -> Any:
        """Return a pass as torch tensors."""
        from keras.src.backend.torch.core import get_device

        from loader_client.torch_adapter import loader_of, tensor_of

        loop, device = self._loop(), get_device()

        def tensor(array: np.ndarray) -> Any:
            return tensor_of(array).to(device, non_blocking=True)

        return loader_of(lambda: self._pass(loop, self._roles, tensor), loop.passes.longest)

    # -- passes ----------------------------------------------------------------------------------------------

    def _loop(self) -> _Loop:
        """Return the loop of Keras that is calling: it says nothing of itself, but who calls can be seen."""
        caller = _caller(2)
        if caller is None:
            return _Loop(self._stream, self._passes(None, 1))
        if caller not in self._loops:
            self._loops[caller] = self._enter(caller, sys._getframe(2).f_locals)
        return self._loops[caller]

    def _enter(self, caller: EpochIterator, arguments: dict[str, Any]) -> _Loop:
        for name, ours in INSTEAD.items():
            if arguments.get(name) is not None:
                raise ValueError(f"{name}= has no effect on a stream: say stream.keras({ours}...)")
        self._stream.fed = self._roles
        return _Loop(
            self._stream,
            self._passes(caller.steps_per_epoch, caller.steps_per_execution),
            endless=caller.steps_per_epoch is not None,
            stride=caller.steps_per_execution,
            trains=arguments.get("shuffle") or self._advance,  # `fit` alone shuffles
            keeps_ids=not arguments.get("shuffle"),
        )

    def _passes(self, steps_per_epoch: int | None, stride: int) -> Passes:
        rolling = self._steps is not None
        if steps_per_epoch is None:
            return Passes(self._info, self._steps, self._advance, rolling)
        return Passes(self._info, steps_per_epoch, self._advance, rolling, stride)

    def _pass(self, loop: _Loop, roles: Roles, pack: Any = lambda array: array) -> Iterator[Any]:
        keep = self._keeper(loop)

        def arrange(batch: Batch) -> Any:
            keep(batch.ids[None])
            weights = self._row_weights(batch, loop.rows_per_sample(batch.n)) if self._row_weights else None
            return roles.arrange(batch, pack, weights)

        return map(arrange, loop.batches())  # which keeps no batch alive, as a generator's variable would

    def _pass_in_bundles(self, loop: _Loop, roles: Roles) -> Iterator[Any]:
        keep, row_weights = self._keeper(loop), self._row_weights

        def arrange(bundle: Bundle) -> Any:
            keep(bundle.ids)
            weights = None
            if row_weights:
                of_each = [{name: array[k] for name, array in bundle.arrays.items()} for k in range(len(bundle))]
                factors = [loop.rows_per_sample(bundle.n + k) for k in range(len(bundle))]
                weights = np.stack(list(map(row_weights, of_each, factors)))
            return roles.arrange(bundle.arrays, weights=weights)

        return map(arrange, loop.bundles(MOST))

    def _keeper(self, loop: _Loop) -> Callable[[NDArray[np.int64]], None]:
        """Return what keeps the ids of batches, of shape (batches, rows), of a new pass."""
        if not loop.keeps_ids:
            return lambda ids: None
        kept: list[NDArray[np.int64]] = []
        self._ids = kept

        def keep(ids: NDArray[np.int64]) -> None:
            kept.extend(ids[: loop.passes.longest - len(kept)].copy())

        return keep


class _Loop:
    """One of Keras' loops over a stream: a call of `fit`, `evaluate` or `predict`; or somebody else's."""

    def __init__(
        self,
        stream: Stream,
        passes: Passes,
        *,
        endless: bool = False,
        stride: int = 1,
        trains: bool = True,
        keeps_ids: bool = False,
    ) -> None:
        self.passes = passes
        self.keeps_ids = keeps_ids
        self._stream = stream
        self._endless = endless  # `steps_per_epoch`: one iterator runs through all passes
        self._stride = stride  # batches of a step
        self._trains = trains
        self._follows = False  # Keras says when a pass begins
        self._before = stream.position
        self._run = passes.at(self._before)
        self._base: int | None = None  # what Keras' count of steps was when the pass began
        self._done = 0

    def begin(self) -> Pass:
        """A pass begins: return it."""
        self._follows = True
        self._before = self._stream.position
        self._run = self.passes.at(self._before)
        self._stream.move(*self._before._replace(done=0))  # a pass is resumed once
        self._base, self._done = None, 0
        return self._run

    def ends_at(self, seen: int) -> bool:
        """Whether the pass is over after so many steps, though Keras would go on; the next step is about to run."""
        if self._base is None:
            self._base = seen
        self._done = seen - self._base
        length = self._run.length
        self._move(self._run.first + min(self._done + self._stride, length))
        # Keras would take a new iterator: but one that is endless runs on, and so many steps were all it was asked for.
        return not self._endless and self._done >= length < self.passes.longest

    def rewind(self) -> None:
        """What was drawn in a pass that did not come to an end was a peek."""
        if self._base is not None and self._done < self._run.length:
            self._stream.move(*self._before)
        self._base = None

    def batches(self) -> Iterator[Batch]:
        """Yield what one iterator of Keras draws."""
        for run in self._runs():
            for n in self.passes.numbers(run):
                self._drawn(n + 1)
                yield self._stream.peek(n, self.passes.cycle)

    def bundles(self, most: int) -> Iterator[Bundle]:
        """Yield the same, up to so many at a time."""
        for run in self._runs():
            done = 0
            while done < run.length:
                n, follow = self.passes.stretch(run, done)
                bundle = self._stream.peek_several(n, min(most, follow), self.passes.cycle)
                done += len(bundle)
                self._drawn(n + len(bundle))
                yield bundle

    def _runs(self) -> Iterator[Pass]:
        """Yield the passes that one iterator of Keras goes through."""
        if not self._follows:
            self.begin()
            self._follows = False
        run = self._run
        yield run
        while self._endless:
            run = self.passes.after(run)
            yield run

    def _drawn(self, n: int) -> None:
        """All batches before `n` are drawn."""
        if self._base is None:  # nobody asks how far it is
            self._move(n)

    def rows_per_sample(self, n: int) -> float:
        """Return what makes up for padding: in the step's loss where one trains, else in that of the whole pass."""
        if self._trains:
            return self.passes.rows_per_sample(Pass(n, 1))
        return self.passes.rows_per_sample(self._run)

    def _move(self, n: int) -> None:
        if self.passes.advance:
            self._stream.move(n, broken_off=not self.passes.rolling)


def _caller(depth: int) -> EpochIterator | None:
    """Return the loop of Keras that so many calls up is; it says nothing of itself, but can be seen."""
    found = sys._getframe(depth + 1).f_locals.get("self")
    return found if isinstance(found, EpochIterator) else None  # a hand-written loop is none


class _Length(int):
    """The batches of a pass, for Keras to compare its steps with; to everybody else, and once copied, a plain int.

    Keras hands it to callbacks, and keeps it in a model's history: so it does not keep the loop, nor the stream.
    """

    _loop: weakref.ref[_Loop]

    def __new__(cls, loop: _Loop) -> _Length:
        length = super().__new__(cls, loop.passes.longest)
        length._loop = weakref.ref(loop)
        return length

    def __le__(self, seen: int) -> bool:
        """Keras asks `seen >= length`; a subclass of int is asked the other way round."""
        loop = self._loop()
        if loop is None or not isinstance(sys._getframe(1).f_locals.get("self"), EpochIterator):
            return super().__le__(seen)
        return loop.ends_at(seen)

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)
