"""Samples of a source that is a user's code: its random numbers are pinned down, and what it gives is kept as it is."""

from __future__ import annotations

from typing import Any

from loader_service.dataset.draws import DrawKeys
from loader_service.dataset.sources.python import PythonReader
from loader_service.dataset.sources.source import Reader
from loader_service.dataset.transforms.map import seed_globals

SOURCE = -1  # the number of the source's random stream, among those of the transforms


class Pinned:
    """Reads any source; of one that is not a user's code there is nothing to pin down."""

    def __init__(self, reader: Reader, keys: DrawKeys) -> None:
        """Read from `reader`.

        Args:
            keys: Of all random numbers.
        """
        self.reader, self._keys = reader, keys
        self.by_user = isinstance(reader, PythonReader)

    def seed(self, epoch: int, position: int) -> None:
        """Seed the global generators for the sample that stands at a position of an epoch."""
        if self.by_user:
            seed_globals(self._keys.of(epoch, SOURCE), position)

    def read(self, epoch: int, sample_id: int, position: int, fields: frozenset[str]) -> dict[str, Any]:
        """Read one sample, when it stands at a position of an epoch.

        What a user's source gives may be its own, and is to be the same next time: a user's function gets a copy of
        what cannot be written to.
        """
        self.seed(epoch, position)
        sample = self.reader.read(sample_id, fields)
        if self.by_user:
            for name, value in sample.items():
                view = value.view()
                view.flags.writeable = False
                sample[name] = view
        return sample
