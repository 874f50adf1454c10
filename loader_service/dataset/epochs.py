"""How an epoch is cut into batches, and which sample stands at each of its positions.

Batches are cut out of the order of samples as it comes, or out of samples of about one length (buckets.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.buckets import BucketOrder, lengths_of_samples
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.order import OrderCache
from loader_service.dataset.selection.selection import Selection
from loader_service.dataset.sources.source import Index, Reader, ReadTable, as_sub_index, sub_index
from loader_service.protocol.errors import DatasetError

BUCKETS = "buckets"  # what stands under this name in the index


class Epochs:
    """All epochs of a dataset: they differ in their order alone."""

    def __init__(self, declaration: Declaration, selection: Selection, index: Index) -> None:
        """Cut a selection.

        Args:
            index: With what `index_of_lengths` returns, where samples are put together by length.
        Raises:
            DatasetError: If there are not enough samples for a batch.
        """
        assert declaration.batch is not None, "a plan checks it"
        self.samples = selection.size
        self.batch_size, self.remainder = declaration.batch.size, declaration.batch.remainder
        self.shuffled = declaration.shuffle is not None or selection.draws
        seed = declaration.seed if self.shuffled else None
        if declaration.bucket_by_length is None:
            self.batches, self.short = self._count_batches()  # short: samples of those that have too few
            self._order = OrderCache(self.samples, seed, selection.ids)
            return
        order = BucketOrder(sub_index(index, BUCKETS), self.batch_size, seed, self.remainder)
        self.batches, self.short = order.batches, order.short
        self._order = OrderCache(order.batches * self.batch_size, seed, selection.ids, order.numbers)

    def ids(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return which samples stand at positions start .. stop - 1 of an epoch."""
        return self._order.ids(epoch, start, stop)

    def _count_batches(self) -> tuple[int, list[int]]:
        if self.samples < self.batch_size and self.remainder != "pad":
            raise DatasetError(
                f"batch size {self.batch_size:,} is larger than the dataset ({self.samples:,} samples): "
                f'use .batch({self.samples}), or remainder="pad" to fill the one batch up with rows of weight 0'
            )
        whole, rest = divmod(self.samples, self.batch_size)
        short = [rest] if rest and self.remainder != "drop" else []
        return whole + len(short), short


def index_of_lengths(declaration: Declaration, selection: Selection, reader: Reader, table: ReadTable) -> Index:
    """Return what the order by length needs to know of all samples, if there is to be one; made once for a dataset.

    Raises:
        DatasetError: If nobody knows the lengths, or samples differ from epoch to epoch.
    """
    buckets = declaration.bucket_by_length
    if buckets is None:
        return {}
    if selection.draws:
        raise DatasetError("bucket_by_length needs the same samples in each epoch: what is drawn differs")
    ids = selection.fixed_ids(np.arange(selection.size, dtype=np.int64))
    return as_sub_index(BUCKETS, buckets.make_index(lengths_of_samples(buckets, reader, table)[ids]))
