"""A Keras callback in place of `BackupAndRestore`: `fit` goes on with the batch that the last backup waits for.

A backup after a batch is written when the next batch is about to begin. If none does, the epoch is over, and is backed
up when its validation is, too: so what other callbacks do at the end of an epoch is done for each. And Keras need not
wait for a batch to end, as it does where a callback asks to be told.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from loader_client.backup import Backup, Backups, Progress, log, warn
from loader_service.protocol.errors import BackupError, DatasetError

if TYPE_CHECKING:
    from loader_client.stream import Stream


class BackupCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """What `stream.backup_callback()` returns."""

    def __init__(
        self, stream: Stream, path: str | os.PathLike[str], every: int | Literal["epoch"], *, save: bool, strict: bool
    ) -> None:
        super().__init__()
        if every != "epoch" and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ValueError(f'every is {every!r}, expected a number of batches, or "epoch"')
        self._stream = stream
        self._backups = Backups(Path(path).absolute())
        self._every: float = math.inf if every == "epoch" else every  # batches
        self._each_epoch = every == "epoch"
        self._save, self._strict = save, strict

    # -- what Keras says -------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore the backup that fits the model, if there is one."""
        self._epoch = 0  # that runs
        self._resumed = 0  # its batches that were trained by a process that is gone
        self._seen = 0  # the others of its batches
        self._since = 0  # batches since the last backup
        self._state = self._stream.state_dict()  # after the step that runs
        self._trained = False
        model = self.model
        _build(model, self._stream)
        if self._save:
            self._backups.make_folder()
        backup = self._backups.choose(_iterations(model))
        if backup is not None:
            self._restore(model, backup)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note which epoch it is."""
        self._epoch, self._seen = epoch, 0
        self.model._initial_epoch = None  # else the next call of `fit` would skip as many epochs

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Write the backup that is due, of the batches before this one."""
        self._since += batch - self._seen
        self._seen = batch
        if self._since >= self._every:
            self._write(self._epoch, self._resumed + batch, self._state)
        self._state = self._stream.state_dict()  # which counts the batches that are about to be trained on
        self._trained = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the backup of a whole epoch."""
        self._resumed = 0
        self._since += self.model.steps_per_execution
        if self._each_epoch or self._since >= self._every:
            self._write(epoch + 1, 0, self._stream.state_dict())

    def on_train_end(self, logs: Any = None) -> None:
        """Write the backup that stays: the model that `fit` returns with."""
        self.model._initial_epoch = None
        if self._trained:
            self._write(self._epoch + 1, 0, self._stream.state_dict(), self._asked)

    # -- within ----------------------------------------------------------------------------------------------

    @property
    def _asked(self) -> int | None:
        """Epochs that `fit` is asked for."""
        return (self.params or {}).get("epochs")

    def _restore(self, model: Any, backup: Backup) -> None:
        progress, where = backup.progress, str(backup.path)
        try:
            self._stream.load_state_dict(progress.stream, strict=self._strict)
        except DatasetError as error:
            raise DatasetError(f"backup {where!r}: {error}, or backup_callback(..., strict=False)") from error
        _load(model, backup)
        self._stream.move(self._stream.cursor, broken_off=not progress.batches, done=progress.batches)
        self._resumed = progress.batches
        if self._asked is not None and max(progress.epoch, progress.finished or 0) >= self._asked:
            model._initial_epoch = self._asked
            log.warning(
                "backup %r is of a training that has ended, after %d epochs: its weights are restored, and nothing is "
                "left to train. Ask fit for more epochs than %d to go on; delete %r to begin anew.",
                where,
                progress.epoch,
                max(progress.epoch, progress.finished or 0),
                str(self._backups.folder),
            )
            return
        model._initial_epoch = progress.epoch
        log.info(
            "training goes on from backup %r, after %d epochs and %d batches", where, progress.epoch, progress.batches
        )

    def _write(self, epoch: int, batches: int, state: dict[str, Any], finished: int | None = None) -> None:
        self._since = 0
        if not self._save:
            return
        model = self.model
        variables = _variables(model)
        progress = Progress(
            stream=state,
            epoch=epoch,
            batches=batches,
            optimizer=_kind(model.optimizer),
            iterations=_iterations(model),
            arrays=len(variables),
            finished=finished,
        )
        arrays = ((name, keras.ops.convert_to_numpy(variable)) for name, variable in variables.items())
        try:
            self._backups.write(progress, arrays)
        except OSError as error:
            warn(
                f"no backup of batch {state['n']} was written to {str(self._backups.folder)!r}: {error}. "
                "Training goes on, and the backups that are there stay as they are."
            )


def _build(model: Any, stream: Stream) -> None:
    """Make the variables of a model and its optimizer, where Keras would make them with the first batch only."""
    if stream.fed is None:
        raise BackupError("backup_callback() is for fit(stream.keras()) of the same stream, which fit was not given")
    if not model.built:
        x = stream.fed.inputs_of(stream.spec, lambda field: keras.KerasTensor((None, *field.shape), field.dtype))
        try:
            model(x)
        except Exception as error:
            raise BackupError(
                f"the model is not built, and could not be built for inputs like {x}: {error}. "
                "Call it on a batch before fit, as its weights have to be there to be restored."
            ) from error
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _load(model: Any, backup: Backup) -> None:
    """Restore weights, random seeds and optimizer.

    Raises:
        BackupError: If they are not those of such a model.
    """
    variables = _variables(model)
    try:
        if backup.progress.optimizer != _kind(model.optimizer):
            raise ValueError(f"its optimizer is {backup.progress.optimizer}, the model's {_kind(model.optimizer)}")
        for name, array in backup.arrays():
            if name not in variables:
                raise ValueError(f"the model has no variable {name}")
            _assign(variables.pop(name), array)
        if variables:
            raise ValueError(f"it has no variable {', '.join(variables)}")
    except ValueError as error:
        raise BackupError(
            f"backup {str(backup.path)!r} is whole, and does not fit the model: {error}. Give fit a model like the one "
            "that was saved, or name another folder, to begin a training of its own."
        ) from error


def _assign(variable: Any, array: np.ndarray) -> None:
    now = keras.ops.convert_to_numpy(variable)
    if array.dtype.kind == "V":  # how NumPy writes what it has no name for, such as bfloat16
        array = array.view(now.dtype)
    if (array.shape, array.dtype) != (now.shape, now.dtype):
        raise ValueError(f"{variable.path} is {array.dtype} {array.shape} in it, {now.dtype} {now.shape} in the model")
    variable.assign(array)


def _variables(model: Any) -> dict[str, Any]:
    """Return all that training changes, each in the order of its making: weights, random seeds, and the optimizer's."""
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    return {
        **{f"model/{number}": variable for number, variable in enumerate(model.variables)},
        **{f"optimizer/{number}": variable for number, variable in enumerate(optimizer)},
    }


def _iterations(model: Any) -> int:
    """Return how many steps the model's optimizer has made."""
    return 0 if model.optimizer is None else int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def _kind(optimizer: Any) -> str:
    return type(optimizer).__name__
