"""The folders that a user has for state and for caches.

Source: XDG Base Directory Specification 0.8: a relative path in one of its variables is to be ignored.
"""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path | None:
    """Return where state lies between runs; None for a uid without a name and without $HOME, as in containers."""
    return _folder(os.environ.get("XDG_STATE_HOME", ""), ".local/state")


def cache_folder() -> Path | None:
    """Return where lies what can be made again; None as above."""
    return _folder(os.environ.get("XDG_CACHE_HOME", ""), ".cache")


def _folder(named: str, usual: str) -> Path | None:
    if Path(named).is_absolute():
        return Path(named)
    try:
        return Path.home() / usual
    except RuntimeError:
        return None
