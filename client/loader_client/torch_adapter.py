"""Batches as torch tensors: one copy, since torch knows no read-only memory; into pinned memory where there is CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from loader_service.protocol.errors import StreamClosed
from loader_service.protocol.spec import BFLOAT16


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Return a writable copy."""
    if array.dtype.name == BFLOAT16:  # torch has one of its own, and does not know that of NumPy
        return tensor_of(array.view(np.int16)).view(torch.bfloat16)
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=dtype, pin_memory=torch.cuda.is_available())
    np.copyto(tensor.numpy(), array)
    return tensor


class TorchDataset(IterableDataset):  # type: ignore[misc]
    """Each pass over it is what `elements()` yields."""

    def __init__(self, elements: Callable[[], Iterator[Any]], batches: int) -> None:
        self._elements = elements
        self._batches = batches

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        return self._batches

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass.

        Raises:
            StreamClosed: In a worker process of torch's.
        """
        if get_worker_info() is not None:
            raise StreamClosed(
                "a stream is read in the process that opened it: DataLoader(..., num_workers=0). "
                "The workers are the daemon's."
            )
        return self._elements()


def loader_of(elements: Callable[[], Iterator[Any]], batches: int) -> Any:
    """Return what Keras takes: elements as they are, in this process."""
    return DataLoader(TorchDataset(elements, batches), batch_size=None)
