"""Where a ledger lies between runs: `loader-service/ledgers/KEY.json` in the user's state folder.

It is read by whoever opens the dataset, and written by whoever finds a bad sample. A reader sees the old file or the
new one, never half of one: the new one is complete on the disk before it takes the old one's name. Those who write at
the same time wait for each other, and each keeps what the others have found. What is no ledger is set aside; what
cannot be written stays in memory. Neither ends a training: at worst, bad samples are found once more.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from loader_service.dataset.user_folders import state_folder
from loader_service.protocol.ledger import BadSample, Ledger

log = logging.getLogger(__name__)

_SAMPLES = TypeAdapter(list[BadSample])


def ledger_path(key: str) -> Path:
    """Return the file of a dataset's key.

    For a user without a folder it is one that cannot be written to, and whoever tries is told so.
    """
    return (state_folder() or Path("/")) / "loader-service" / "ledgers" / f"{key}.json"


class LedgerFile:
    """The file of one key, as one process sees it. What goes wrong with it is logged, not raised."""

    def __init__(self, key: str) -> None:
        self.path = ledger_path(key)
        self._key = key
        self._seen: tuple[int, ...] | None = None  # which file was read last
        self._in_memory = False  # it could not be written, and that was said

    def news(self) -> list[BadSample]:
        """Return what the file holds, if it is another one than at the last call."""
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            samples = self._read() if seen != self._seen else []
            self._seen = seen
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s cannot be read (%s): bad samples will be found once more", self.path, error.strerror)
            return []
        return samples

    def record(self, samples: list[BadSample]) -> list[BadSample]:
        """Have the file hold these samples. Return what is known then: others may have written there, too."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                ledger = Ledger([*self._read(), *samples])
                self._write({"key": self._key, "samples": [vars(sample) for sample in ledger]})
        except OSError as error:
            if not self._in_memory:
                told = "%s cannot be written (%s): which samples are replaced is remembered in memory only"
                log.warning(told, self.path, error.strerror)
            self._in_memory = True
            return samples
        self._in_memory = False
        return list(ledger)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path.parent / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, told: dict[str, Any]) -> None:
        new = self.path.with_suffix(".new")  # the same for all: who writes holds the lock, and what the dead left goes
        try:
            with new.open("w") as file:
                json.dump(told, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the power may go, and the new name with it
        finally:
            os.close(folder)

    def _read(self) -> list[BadSample]:
        """Return what the file holds; raises OSError where that cannot be known."""
        try:
            told = json.loads(self.path.read_bytes())
            if told["key"] != self._key:
                raise ValueError(f"it is that of the key {told['key']!r}")
            return _SAMPLES.validate_python(told["samples"])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            aside = self.path.with_suffix(".damaged")
            log.warning("%s is no ledger (%s): it is set aside as %s, and begun anew", self.path, error, aside.name)
            self.path.replace(aside)
            return []
