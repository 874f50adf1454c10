"""What one process knows of a dataset's bad samples; and how it decides, where it makes batches for itself.

who                             decides             remembers in the ledger's file
`compute`, workers=0            yes                 yes
a worker that opens first       for the first one   yes: it tells the daemon what stands there
all other workers               no: they are told   no: the daemon does
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.ledger_file import LedgerFile
from loader_service.dataset.replacing import Replacing
from loader_service.dataset.selection.selection import Selection
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ledger import ATTEMPTS, BadSample, Ledger


class BadSamples:
    """The ledger of a key, and the replacements of what is in it."""

    def __init__(self, key: str, pool: Selection, seed: int, most: int, told: Iterable[int] | None) -> None:
        """Begin with those that are known.

        Args:
            pool: All samples of the dataset.
            most: Samples that may be replaced.
            told: Those that whoever decides for us has found so far; None to decide here, and to look into the file.
        """
        self.most = most
        self.ledger = Ledger()  # workers that are only told which samples to replace have nothing in it
        self._samples = pool.size
        self._replacing = Replacing(pool, seed)
        self._file = LedgerFile(key) if most and told is None else None
        self._unwritten = False  # whether the ledger holds what its file does not
        self.replace(told or ())
        self.heed_file()

    @property
    def first(self) -> int:
        """The sample that tells what all others look like."""
        return self._replacing.first

    @property
    def ids(self) -> frozenset[int]:
        """The samples that are replaced."""
        return self._replacing.ids

    def replace(self, ids: Iterable[int]) -> None:
        """Replace these, too, from here on."""
        self._replacing.grow(ids)

    def apply(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `ids` with each bad one replaced."""
        return self._replacing.apply(ids)

    def heed_file(self) -> None:
        """Replace what others have found, in other processes or earlier runs."""
        if self._file is not None:
            self._enter(self._file.news())

    def forgive(self, error: DatasetError, raised: Counter[int]) -> None:
        """Let a sample that raised be made once more; then replace it.

        Args:
            raised: How often each sample did.
        Raises:
            DatasetError: The same one, if no sample is its reason, or none may be replaced; or that too many are.
        """
        sample = error.sample
        if sample is None or self._file is None:
            raise error
        raised[sample.id] += 1
        if raised[sample.id] < ATTEMPTS:
            return
        if len(self.ledger) >= self.most:
            raise self.ledger.refuse(sample, self.most, self._samples, str(self._file.path)) from error
        self._enter([sample])
        self._unwritten = True

    def insist(self, make: Callable[[], None]) -> None:
        """Make rows again until they can be made: with samples replaced that raise, as far as that may be."""
        raised: Counter[int] = Counter()
        while True:
            try:
                make()
                return
            except DatasetError as error:
                self.forgive(error, raised)

    def write(self) -> None:
        """Have the file hold what was found; once it was worth it: batches can be made with it."""
        if self._file is not None and self._unwritten:
            self._enter(self._file.record(list(self.ledger)))
            self._unwritten = False

    def _enter(self, samples: Iterable[BadSample]) -> None:
        self.replace([sample.id for sample in self.ledger.add(samples)])
