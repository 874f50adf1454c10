"""Where caches lie: one folder each, named by the hash of all that its samples depend on.

    $XDG_CACHE_HOME/loader-service/samples/ADDRESS/   about.json  index  data
    /dev/shm/loader-service-UID/memory-ADDRESS/       the same, in memory only

A cache comes into being with one rename, whole and empty: whoever comes second takes what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader_service.dataset.cache.store import DATA, ENTRY, INDEX, SampleStore
from loader_service.dataset.user_folders import cache_folder
from loader_service.machine import available_memory
from loader_service.protocol.errors import DatasetError

FORMAT = 1
MEMORY = Path("/dev/shm")
ABOUT = "about.json"


def caches_folder() -> Path:
    """Return the folder of the user's caches.

    Raises:
        DatasetError: If the user has none.
    """
    caches = cache_folder()
    if caches is None:
        raise DatasetError("there is no folder for caches: set HOME, or name one with .cache(path=...)")
    return caches / "loader-service" / "samples"


def memory_folder() -> Path:
    """Return the folder of those of the user's caches that lie in memory."""
    return MEMORY / f"loader-service-{os.getuid()}"


def own_memory_folder() -> Path:
    """Return it; make it, if it is not there: no other user can look into it.

    Raises:
        DatasetError: If it cannot be made, or somebody else has made it.
    """
    folder = memory_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise DatasetError(f"no cache can be made in {str(folder)!r}: {error.strerror}") from error
    if owner != os.getuid():
        raise DatasetError(f"the folder {str(folder)!r} belongs to uid {owner}, not to you: keep samples on a disk")
    return folder


def memory_left() -> int:
    """Return the bytes of memory that are free for files: /dev/shm has a bound of its own."""
    shared = os.statvfs(MEMORY)
    return min(shared.f_bavail * shared.f_frsize, available_memory())


def open_store(root: Path, address: str, about: dict[str, Any], samples: int, most: int | None) -> SampleStore:
    """Open a cache; make it, if there is none.

    Args:
        about: What people are told of it: plain data.
    Raises:
        DatasetError: If it cannot be made or opened, or is none of yours.
    """
    folder = root / address
    try:
        if not folder.is_dir():
            _make(folder, about, samples)
        owner = folder.stat().st_uid
    except OSError as error:
        raise DatasetError(
            f"no cache can be made in {str(root)!r}: {error.strerror}. Name another folder with .cache(path=...)"
        ) from error
    if owner != os.getuid():
        raise DatasetError(f"the cache {str(folder)!r} belongs to uid {owner}, not to you: name a folder of your own")
    read_about(folder)
    return SampleStore(folder, samples, most)


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a cache says of itself.

    Raises:
        DatasetError: If it is none, or of another version.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_bytes())
        found = about["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{str(folder)!r} is no cache, or a damaged one: delete it") from error
    if found != FORMAT:
        raise DatasetError(
            f"the cache {str(folder)!r} has format {found!r}, and this version reads {FORMAT}: delete it, with "
            "`loader-service cache clear`"
        )
    return about


@dataclass(frozen=True)
class CacheSize:
    """How much a cache holds."""

    samples: int  # that there are entries of
    of: int  # samples of the dataset
    nbytes: int


def size_of(folder: Path) -> CacheSize:
    """Count the entries of a cache."""
    import numpy as np

    starts = np.fromfile(folder / INDEX, "<u8").reshape(-1, ENTRY.size // 8)[:, 0]
    return CacheSize(int(np.count_nonzero(starts)), len(starts), (folder / DATA).stat().st_size)


def caches_in(root: Path) -> Iterator[Path]:
    """Yield the folders of all caches, by name."""
    if root.is_dir():
        yield from sorted(folder for folder in root.iterdir() if (folder / ABOUT).is_file())


def clear(folder: Path) -> None:
    """Delete a cache, and with the last one in memory their folder. Whoever reads it goes on with what it has open."""
    shutil.rmtree(folder)
    if folder.parent == memory_folder():
        with contextlib.suppress(OSError):  # others are there, or one is being made
            folder.parent.rmdir()


def _make(folder: Path, about: dict[str, Any], samples: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        (fresh / ABOUT).write_text(json.dumps({"format": FORMAT, "samples": samples, **about}, indent=2))
        (fresh / DATA).touch()
        with (fresh / INDEX).open("wb") as index:
            index.truncate(samples * ENTRY.size)
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody was first
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
