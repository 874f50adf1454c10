"""JPEGs of all kinds, small ones, for `make fuzz-jpeg` to begin with: what it reads, and what it is to refuse.

python -m tests.faults.fuzz_jpeg FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.dataset.jpegs import KINDS, SIZES, jpeg

CHOICES = (bytes(6), bytes([1, 0, 90, 90, 90, 90]), bytes([2, 1, 30, 200, 250, 40]))  # which part: see fuzz_jpeg.c


def main(folder: Path) -> None:
    """Write a file for each kind, size and part."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for height, width in SIZES:
            for number, choice in enumerate(CHOICES):
                name = f"{kind}-{height}x{width}-{number}"
                (folder / name).write_bytes(jpeg(kind, height, width, quality=60) + choice)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
