"""The samples of a chain that are kept: found again, or made and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from loader_service.dataset.cache.folder import caches_folder, memory_left, open_store, own_memory_folder
from loader_service.dataset.cache.store import SampleStore
from loader_service.dataset.sources.contents import Contents
from loader_service.dataset.sources.source import Index, Reader
from loader_service.protocol.tables import TableRef

if TYPE_CHECKING:  # which has a cache
    from loader_service.dataset.declaration import Declaration

CHOSEN = ("select.", "buckets.")  # what the index holds of these says which samples there are, not what is in them


class CachedSamples:
    """What the first `after` transforms make of samples, in one process."""

    def __init__(self, after: int, store: SampleStore, contents: Contents | None) -> None:
        self.after = after
        self._store = store
        self._paths = [files.path_of for files in contents.files.values()] if contents else []

    def get(self, sample_id: int, make: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """Return a sample: views of the cache; or as `make` makes it, which is kept if there is room."""
        found = self._store.recall(sample_id)
        if found is None:
            identity = self._identity(sample_id)  # as its files are before they are read
            found = self._store.get(sample_id, identity)
            if found is None:
                found = make(sample_id)
                self._store.put(sample_id, found, identity)
        return found

    def _identity(self, sample_id: int) -> int:
        """Return a number that is another one when a sample's files have changed; 0 where it has none."""
        if not self._paths:
            return 0
        stats = (os.stat(path_of(sample_id)) for path_of in self._paths)  # noqa: PTH116 - bytes, and often
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
    most = cache.most
    if cache.in_memory:
        root, address = own_memory_folder(), f"memory-{address}"
        most = memory_left() // 2 if most is None else most
    else:
        root = caches_folder() if cache.path is None else Path(cache.path)
    store = open_store(root, address, about, len(reader), most)
    return CachedSamples(cache.after, store, declaration.source.contents(index))
