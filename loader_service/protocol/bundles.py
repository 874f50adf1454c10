"""Bundles: small batches that follow one another, and are made and handed over as one.

To ask for a batch, to find a slot for it and to tell of it costs the same however small it is; for a table, more than
to make it. So where rows are copied out of arrays, daemon and workers know bundles only. To them a bundle is a batch,
with more rows; the client cuts it up. Rows depend on their position in the epoch alone, so that they are the same.
"""

from __future__ import annotations

from dataclasses import replace

from loader_service.protocol.layout import IDS_SPEC
from loader_service.protocol.spec import DatasetInfo

SMALL = 128 * 2**10  # bytes of a batch; what larger ones cost is mostly their bytes
MOST = 64  # batches of a bundle
MOST_NBYTES = 2**21  # of a bundle: some of them fit into the caches that cores share
LEAST_BUNDLES = 64  # of an epoch: whoever begins somewhere, or ends, has not much made for nothing


def bundle_of(info: DatasetInfo) -> int:
    """Return how many batches a bundle of them has; 1 where they are no use.

    >>> from loader_service.protocol.spec import FieldSpec
    >>> rows = {"x": FieldSpec((32,), "float32")}
    >>> info = DatasetInfo("key", rows, 256, 1_000_000, 3907, True, ["x"], [], [], short=[64])
    >>> bundle_of(info), bundle_of(replace(info, batch_size=4096))
    (60, 1)
    """
    nbytes = info.batch_size * sum(field.nbytes for field in (*info.spec.values(), IDS_SPEC))
    if nbytes > SMALL or not info.alike or info.stage or info.live or info.remainder == "pad":
        return 1
    return max(1, min(MOST, MOST_NBYTES // nbytes, info.batches_per_epoch // LEAST_BUNDLES))


def bundled(info: DatasetInfo) -> DatasetInfo:
    """Return what daemon and workers take a dataset for whose batches come in bundles.

    >>> info = DatasetInfo("key", {}, 10, 6393, 640, False, [], [], [], short=[3])
    >>> bundles = bundled(info)
    >>> bundles.bundle, bundles.batch_size, bundles.batches_per_epoch, bundles.short
    (10, 100, 64, [93])
    >>> unbundled(bundles) == info
    True
    """
    size = bundle_of(info)
    return info if size == 1 else _in_bundles_of(size, info)


def unbundled(info: DatasetInfo) -> DatasetInfo:
    """Return what a dataset is to its readers: the opposite of `bundled`."""
    return _in_bundles_of(1, info)


def _in_bundles_of(size: int, info: DatasetInfo) -> DatasetInfo:
    """Cut the same samples anew; an epoch's last batch alone may be short."""
    samples = info.batches_per_epoch * info.batch_size - sum(info.batch_size - short for short in info.short)
    rows = info.batch_size // info.bundle * size
    short = [samples % rows] if samples % rows else []
    return replace(info, bundle=size, batch_size=rows, batches_per_epoch=-(-samples // rows), short=short)


class Bundles:
    """Which bundle a batch is in; both are numbered from 0 over all epochs.

    >>> bundles = Bundles(4, batches_per_epoch=10)
    >>> [bundles.place(n) for n in (0, 3, 4, 9, 10)]
    [(0, 0), (0, 3), (1, 0), (2, 1), (3, 0)]
    >>> [bundles.first(number) for number in range(4)]
    [0, 4, 8, 10]
    """

    def __init__(self, size: int, batches_per_epoch: int) -> None:
        self._size, self._batches = size, batches_per_epoch
        self._per_epoch = -(-batches_per_epoch // size)

    def place(self, n: int) -> tuple[int, int]:
        """Return the number of the bundle that batch `n` is in, and which of its batches that is."""
        epoch, batch = divmod(n, self._batches)
        number, part = divmod(batch, self._size)
        return epoch * self._per_epoch + number, part

    def first(self, number: int) -> int:
        """Return the number of a bundle's first batch."""
        epoch, number = divmod(number, self._per_epoch)
        return epoch * self._batches + number * self._size
