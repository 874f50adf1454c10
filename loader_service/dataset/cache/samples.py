"""The samples of a chain that are kept: found again, or made and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import xxhash

from loader_service.dataset.cache.folder import caches_folder, open_store
from loader_service.dataset.cache.store import SampleStore
from loader_service.dataset.sources.source import Index, Reader
from loader_service.protocol.tables import TableRef

if TYPE_CHECKING:  # which has a cache
    from loader_service.dataset.declaration import Declaration

CHOSEN = ("select.", "buckets.")  # what the index holds of these says which samples there are, not what is in them


@runtime_checkable
class ReadsFiles(Protocol):
    """A reader whose samples lie in files of their own."""

    def files_of(self, sample_id: int) -> list[bytes]:
        """Return the paths of a sample's files."""


class CachedSamples:
    """What the first `after` transforms make of samples, in one process."""

    def __init__(self, after: int, store: SampleStore, reader: Reader) -> None:
        self.after = after
        self._store = store
        self._files = reader if isinstance(reader, ReadsFiles) else None
        self._seen = bytearray(len(reader))  # samples whose files were looked at here

    def get(self, sample_id: int, make: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Return a sample: views of the cache; or as `make` makes it, which is kept if there is room."""
        identity = 0
        if not self._seen[sample_id]:
            identity = self._identity(sample_id)
        found = self._store.get(sample_id, identity)
        if found is None:
            identity = identity or self._identity(sample_id)  # as it is before it is read
            found = make(sample_id)
            self._store.put(sample_id, found, identity)
            return found
        self._seen[sample_id] = 1
        return found

    def _identity(self, sample_id: int) -> int:
        """Return a number that is another one when a sample's files have changed; 0 where it has none."""
        if self._files is None:
            return 0
        stats = (os.stat(path) for path in self._files.files_of(sample_id))  # noqa: PTH116 - bytes, and often
        told = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        return xxhash.xxh3_64_intdigest(repr(told).encode())


def open_cached(declaration: Declaration, index: Index, reader: Reader) -> CachedSamples | None:
    """Open the cache that a dataset declares; None if it declares none.

    Raises:
        DatasetError: If it cannot be made or opened.
    """
    cache = declaration.cache
    if cache is None:
        return None
    content = {name: TableRef.of(array).table for name, array in index.items() if not name.startswith(CHOSEN)}
    address, about = declaration.cache_address(content)
    root = caches_folder() if cache.path is None else Path(cache.path)
    return CachedSamples(cache.after, open_store(root, address, about, len(reader), cache.most), reader)
