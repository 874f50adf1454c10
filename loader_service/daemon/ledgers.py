"""The ledgers of the keys that a daemon serves: which samples are replaced, who knows of it, what is on the disk.

Shards of a key, and all streams over it, share its ledger. A sample enters it when the scheduler asks for a verdict
(`judge`), or with the worker that opened the dataset and has looked into the ledger's file. Whoever makes or reads
batches of the key is told at once, and rows that are made again come after that. A thread of its own writes the file,
since a disk may be slow: nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from loader_service.dataset.ledger_file import LedgerFile, ledger_path
from loader_service.protocol.codec import failed
from loader_service.protocol.ledger import BadSample, Ledger
from loader_service.protocol.messages import Failed
from loader_service.protocol.spec import DatasetInfo

log = logging.getLogger(__name__)


class Ledgers:
    """One for each key, for as long as the daemon lives."""

    def __init__(self, grown: Callable[[str, list[BadSample]], None]) -> None:
        """Begin without any.

        Args:
            grown: Called with a key and the samples that were not in its ledger before.
        """
        self._grown = grown
        self._ledgers: dict[str, Ledger] = {}
        self._files: dict[str, LedgerFile] = {}  # of those that had to be written
        self._writing: set[str] = set()
        self._unwritten: set[str] = set()  # grown since their file was begun
        self._writer = ThreadPoolExecutor(1, "ledgers")
        self._loop = asyncio.get_running_loop()

    def of(self, key: str) -> Ledger:
        """Return the ledger of a key."""
        return self._ledgers.setdefault(key, Ledger())

    def enter(self, key: str, samples: list[BadSample]) -> None:
        """Take in what stands in the ledger's file."""
        if new := self.of(key).add(samples):
            self._grown(key, new)

    def judge(self, info: DatasetInfo, sample: BadSample, error: Failed) -> Failed | None:
        """Replace a sample that cannot be made. Return the error that its batch fails with, where that may not be."""
        ledger = self.of(info.key)
        if not info.most_replaced:
            return error
        if sample.id in ledger:
            return None  # other rows with it have failed before
        if len(ledger) >= info.most_replaced:
            refused = failed(ledger.refuse(sample, info.most_replaced, info.samples, str(ledger_path(info.key))))
            return Failed(refused.name, refused.message, error.notes)
        log.info("replaced: %s", sample, extra={"key": info.key})
        self.enter(info.key, [sample])
        self._write(info.key)
        return None

    def close(self) -> None:
        """Write everything once more: there may be space again."""
        self._writer.shutdown()
        for key, file in self._files.items():
            file.record(list(self.of(key)))

    def _write(self, key: str) -> None:
        """Write the file of a ledger, now or when the writing of an earlier state is done."""
        if key in self._writing:
            self._unwritten.add(key)
            return
        self._writing.add(key)
        self._unwritten.discard(key)
        file = self._files.setdefault(key, LedgerFile(key))
        writing = self._loop.run_in_executor(self._writer, file.record, list(self.of(key)))
        writing.add_done_callback(partial(self._written, key))

    def _written(self, key: str, writing: asyncio.Future[list[BadSample]]) -> None:
        self._writing.discard(key)
        self.enter(key, writing.result())  # another daemon may write there, too
        if key in self._unwritten:
            self._write(key)
