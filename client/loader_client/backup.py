"""Backups on disk: what a training needs to go on, each of them one file.

    PATH/backup-000017.npz           the newest: all variables of a model, and `progress.json`
    PATH/backup-000016.npz           the one before
    PATH/backup-000018.npz.partial   not there yet

A backup is written under its partial name, flushed to the disk, and renamed: whoever kills the writer leaves a partial
file, which nobody reads and the next writer removes. One that is damaged all the same is known by its checksums.

Not Keras' own weights files: HDF5 takes the process with it when the disk is full.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from loader_service.protocol.errors import BackupError

KEPT = 2
NAME = re.compile(r"backup-(\d+)\.npz(\.partial)?")
PROGRESS = "progress.json"

log = logging.getLogger("loader_client")


def warn(told: str) -> None:
    """Say what went wrong though the training goes on: where a person looks, and where a machine does."""
    warnings.warn(told, stacklevel=3)
    log.warning("%s", told)


class Progress(BaseModel):
    """How far a training is."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    stream: dict[str, Any]  # its state
    epoch: int  # of `fit`, that is next or under way
    batches: int  # of that epoch, that the model is trained on
    optimizer: str  # its kind
    iterations: int  # steps that it has made
    arrays: int  # how many variables there are
    finished: int | None = None  # epochs that were asked of a `fit` that has returned


@dataclass(frozen=True)
class Backup:
    """One that is whole."""

    path: Path
    progress: Progress

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the arrays by name, one in memory at a time."""
        with np.load(self.path) as archive:
            for name in archive.files:
                if name != PROGRESS:
                    yield name, archive[name]


class Backups:
    """The backups of one training, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._passed_over: list[Path] = []  # newer than the one that the training goes on from

    def make_folder(self) -> None:
        """Make the folder, or see that it can be written to: now, and not when the first backup is due.

        Raises:
            BackupError: If it cannot.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError("no permission")
        except OSError as error:
            raise BackupError(f"backups cannot be written to {str(self.folder)!r}: {error}") from error

    def choose(self, iterations: int) -> Backup | None:
        """Return the backup that a training goes on from; None if there was none ever.

        Args:
            iterations: Of the model's optimizer. The newest backup is for a model that was not trained yet; for one
                whose weights somebody has restored, it is the one with as many.
        Raises:
            BackupError: If none is whole, or none is of so many iterations.
        """
        whole, found = [], self._files()
        self._passed_over = []
        for backup in _whole(found):
            if iterations in (0, backup.progress.iterations):
                self._passed_over = found[: found.index(backup.path)]
                return backup
            whole.append(backup)
        if whole:
            known = " and ".join(f"{backup.progress.iterations:,} ({backup.path.name})" for backup in whole)
            raise BackupError(
                f"the model's optimizer has made {iterations:,} steps, the backups in {str(self.folder)!r} are of "
                f"{known}: give fit a new model, which goes on from the newest, or name another folder, to begin a "
                "training of its own"
            )
        if found:
            raise BackupError(
                f"no backup in {str(self.folder)!r} is whole ({', '.join(path.name for path in found)}): "
                "delete the folder, to begin anew, or restore it from elsewhere"
            )
        return None

    def write(self, progress: Progress, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """Write a backup; remove all others but the one that the training was at before.

        Raises:
            OSError: If it cannot be written. The backups that are there stay as they are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self._files(partial=True):
            left.unlink()
        number = max(map(_number, self._files()), default=-1) + 1
        path = self.folder / f"backup-{number:06}.npz"
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as file:
                _pack(file, progress, arrays)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_names(self.folder)
        there = self._files()
        kept = [path for path in there if path not in self._passed_over][:KEPT]
        for old in set(there) - set(kept):
            old.unlink()

    def _files(self, *, partial: bool = False) -> list[Path]:
        """Return the files of backups, the newest first."""
        if not self.folder.is_dir():
            return []
        named = ((NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((path for match, path in named if match and bool(match[2]) == partial), key=_number, reverse=True)


def _whole(paths: list[Path]) -> Iterator[Backup]:
    """Yield those that can be used; name the others in a warning."""
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"{damaged} is not what was written")
                progress = Progress.model_validate_json(archive.read(PROGRESS))
                if len(archive.namelist()) != progress.arrays + 1:  # checksums guard the members, not the list of them
                    raise zipfile.BadZipFile(f"{progress.arrays} arrays were written, others are there")
        except Exception as error:  # a damaged archive fails in many ways
            warn(f"backup {str(path)!r} is damaged, and passed over: {_reason(error)}")
            continue
        yield Backup(path, progress)


def _pack(file: Any, progress: Progress, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write what `np.load` reads, with one array in memory at a time."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(PROGRESS, progress.model_dump_json())
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return ": ".join([PROGRESS, *map(str, first["loc"]), first["msg"]])


def _number(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    assert match is not None, "only files of that name are listed"
    return int(match[1])


def _flush_names(folder: Path) -> None:
    """Put the list of a folder's files on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
