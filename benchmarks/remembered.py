"""How much sooner is a part of a JPEG decoded, once it is remembered where its codes can be entered?

Method   One process, one thread, no pool and no daemon: the kernel alone, the hash by which a file is known included.
         Parts as photos.py draws them, other ones in each epoch, of 300 photos and of ten of the large ones; those of
         the latter at a half, a quarter or an eighth of their size, where both sides stay at 224 pixels or more. Each
         part is decoded with what is remembered and without, by turns first and second, and compared.
         Epoch 0 is the first time that a file is seen; the others are put together, medians of epochs.
Machine  2 cores AMD EPYC, 24 GiB, Linux 6.18, Python 3.11                                             2026-12-01
Result   of the time without: photos 0.86 (0.86..0.86 in three runs), in the first epoch 1.03; large photos 0.69
         (0.68..0.73), in the first epoch 1.06
Not shown  reading files, scaling parts to their size: the same with and without.

    python -m benchmarks.remembered        (--epochs 6)
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
from rich.table import Table

from benchmarks import data
from benchmarks.harness import begin
from benchmarks.photos import SIZE, random_box
from loader_service.dataset.sources.jpeg_region import Kernel, kernel

PHOTOS = 300
SHRINKS = (8, 4, 2, 1)


def files(large: bool) -> list[bytes]:
    """Return the bytes of some photos; of large ones, those that are no copies of others."""
    if large:
        each = data.LARGE_PHOTOS // data.CLASSES
        return [data.large_photo(number * each + number).read_bytes() for number in range(data.CLASSES)]
    return [data.photo(number).read_bytes() for number in range(0, data.PHOTOS, data.PHOTOS // PHOTOS)]


def part_of(size: tuple[int, int], shrinks: bool, rng: np.random.Generator) -> tuple[int, int, int, int, int]:
    """Draw a part: by how much the picture is scaled down; top, left, height, width, in pixels of what it is then."""
    top, left, height, width = random_box(*size, rng)
    shrink = next(by for by in (SHRINKS if shrinks else (1,)) if by == 1 or min(height, width) // by >= SIZE)
    return shrink, top // shrink, left // shrink, height // shrink, width // shrink


def epoch(decoder: Kernel, encoded: list[bytes], shrinks: bool, rng: np.random.Generator) -> tuple[float, float]:
    """Decode a part of each file; return the seconds of a part without what is remembered, and with it."""
    took = {False: 0.0, True: 0.0}
    for order, one in zip(itertools.cycle([(False, True), (True, False)]), encoded, strict=False):
        size = decoder.size(one)
        assert size is not None, "photos are common JPEGs"
        shrink, top, left, height, width = part_of(size, shrinks, rng)
        made = []
        for remember in order:
            out = np.empty((height, width, 3), np.uint8)
            began = time.perf_counter()
            decoder.region(one, shrink, top, left, out, remember=remember)
            took[remember] += time.perf_counter() - began
            made.append(out)
        assert np.array_equal(*made), "what is remembered has changed the pixels"
    return took[False] / len(encoded), took[True] / len(encoded)


def measure(epochs: int) -> Iterator[tuple[str, str, float, float]]:
    """Yield which photos, which epochs, and milliseconds of a part without what is remembered and with it."""
    decoder = kernel()
    if decoder is None:
        raise SystemExit("the kernel that decodes parts is not built here")
    for name, large in (("photos", False), ("large photos", True)):
        rng, encoded = np.random.default_rng(7), files(large)
        first, *later = (epoch(decoder, encoded, large, rng) for _ in range(epochs))
        yield name, "first", *(1000 * seconds for seconds in first)
        yield name, "later", *(1000 * statistics.median(seconds) for seconds in zip(*later, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.remembered", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6, help="two or more")
    asked = parser.parse_args()
    _, console = begin(cores=1)
    data.make_photos()
    data.make_large_photos()
    found = Table("", "epochs", title="a part of a JPEG, ms", title_justify="left")
    for heading in ("without", "remembered", "of it"):
        found.add_column(heading, justify="right")
    for name, which, without, remembered in measure(asked.epochs):
        found.add_row(name, which, f"{without:.3g}", f"{remembered:.3g}", f"{remembered / without:.2f}")
    console.print(found)


if __name__ == "__main__":
    main()
