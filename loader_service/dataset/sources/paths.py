"""Where the files of samples lie, without a million Python strings."""

from __future__ import annotations

import os

from loader_service.protocol.tables import PackedStrings


class Paths:
    """A path for each sample, absolute: a root, a name beneath it, a suffix."""

    def __init__(self, root: str, packed: PackedStrings, suffix: bytes = b"", *, any_root: bool = False) -> None:
        """Take a folder, and what lies beneath it.

        Args:
            any_root: Whether names that begin with a slash are whole paths.
        """
        self.root = os.fsencode(root).rstrip(b"/") + b"/"
        self.packed, self.suffix, self.any_root = packed, suffix, any_root

    def __len__(self) -> int:
        return len(self.packed)

    def __call__(self, sample_id: int) -> bytes:
        name = self.packed[sample_id] + self.suffix
        return name if self.any_root and name.startswith(b"/") else self.root + name
