"""How much does the hand-over of one batch cost, where making it costs nothing?

A source whose rows are ready: a worker copies them to where the client reads them. 64 rows of 512 B (32 KiB) and of
150,528 B (9.6 MB); 128 and 8 batches ahead, for the queues of the others as well.

We lose to a loop over an array that is in this process already; and, with small batches, to bare ZeroMQ frames: ours
are ordered, counted, made again where a worker dies, and take several messages. The large case is bound by memory. Our
workers copy past the caches (GLIBC_TUNABLES, see loader_service/pool/engine.py), the bare `numpy.copyto` does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arms import Arm, Batch, Case, Counter, Drive, Fill, counting, fork, processes, reading, shared_arrays
from benchmarks.harness import main
from benchmarks.peers import OURS

ROWS = 64
PREFETCH = {512: 128, 150_528: 8}  # row size -> batches asked for ahead: 4 MiB and 77 MB; the others queue as many
SPARE_SLOTS = 6  # what the daemon adds to them: loader_service/daemon/memory.py


class SameBatch:
    """A source whose rows are ready: all that is left to do is to write them where the client reads them."""

    row_nbytes: int

    def __init__(self) -> None:
        self.ready = ready_batch(self.row_nbytes)

    def __len__(self) -> int:
        return ROWS * 4096

    def __getitem__(self, i: int) -> dict[str, NDArray[np.uint8]]:
        return {"x": self.ready[i % ROWS]}

    def read_rows(self, ids: NDArray[np.int64], out: dict[str, NDArray[np.uint8]]) -> None:
        np.copyto(out["x"], self.ready[: len(ids)])


class Small(SameBatch):
    row_nbytes = 512  # x 64: 32 KiB


class Large(SameBatch):
    row_nbytes = 150_528  # 224 x 224 x 3; x 64: 9.6 MB


def ready_batch(row_nbytes: int) -> NDArray[np.uint8]:
    return np.full((ROWS, row_nbytes), 7, np.uint8)


class SameBytes:
    """An examiner: the bytes are those of the ready batch."""

    def saw(self, batch: Batch) -> None:
        (x,) = batch
        assert x.shape[0] == ROWS and x.dtype == np.uint8 and (x == 7).all(), "these are not the ready bytes"

    def epoch_ended(self) -> None:
        """Never said."""

    def warm_up_ended(self) -> None:
        """Every batch was looked at."""


# -- the arms ------------------------------------------------------------------------------------------------------


def ours(source: str, row_nbytes: int) -> Iterator[Batch]:
    import loader_client
    from loader_service import Dataset

    dataset = Dataset.from_python(f"benchmarks.handover:{source}").batch(ROWS)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset, prefetch=PREFETCH[row_nbytes])
        while True:
            for batch in stream:
                yield (batch["x"],)


def copyto(row_nbytes: int) -> Fill:
    """Two processes fill shared slots as fast as they can; nobody reads, nobody is told."""
    slots = PREFETCH[row_nbytes] + SPARE_SLOTS
    (views,) = shared_arrays(slots, ROWS, ((row_nbytes,), np.uint8))

    def fill(worker: int, made: Counter) -> None:
        ready = ready_batch(row_nbytes)
        while True:
            for slot in range(worker, slots, 2):
                np.copyto(views[slot], ready)
                made.value += 1

    return fill


def queue(row_nbytes: int) -> Iterator[Batch]:
    """multiprocessing.Queue: the batch is pickled through a pipe."""
    batches = fork.Queue(PREFETCH[row_nbytes])

    def put() -> None:
        ready = ready_batch(row_nbytes)
        while True:
            batches.put(ready)

    with processes(put, put):
        while True:
            yield (batches.get(),)


def zeromq(row_nbytes: int) -> Iterator[Batch]:
    """ZeroMQ frames over ipc, without copies on either side of the socket; each reader's queue holds the prefetch."""
    import zmq

    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/handover"

        def push() -> None:
            ready = ready_batch(row_nbytes)
            sock = zmq.Context().socket(zmq.PUSH)
            sock.setsockopt(zmq.SNDHWM, PREFETCH[row_nbytes] // 2)
            sock.connect(address)
            while True:
                sock.send(ready, copy=False)

        with processes(push, push), zmq.Context() as context, context.socket(zmq.PULL) as sock:
            sock.setsockopt(zmq.RCVHWM, PREFETCH[row_nbytes] // 2)
            sock.bind(address)
            while True:
                yield (np.frombuffer(sock.recv(copy=False), np.uint8).reshape(ROWS, row_nbytes),)


def torch_loader(row_nbytes: int) -> Iterator[Batch]:
    """PyTorch's DataLoader: its own collate stacks the rows straight into a new shared segment for each batch."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)

    class Same(Dataset):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = list(torch.from_numpy(ready_batch(row_nbytes)))

        def __len__(self) -> int:
            return ROWS * 4096

        def __getitems__(self, ids: list[int]) -> list[Any]:
            return self.rows[: len(ids)]

    loader = DataLoader(
        Same(), batch_size=ROWS, num_workers=2, prefetch_factor=PREFETCH[row_nbytes] // 2, persistent_workers=True
    )
    while True:
        for batch in loader:
            yield (batch.numpy(),)


def nothing(row_nbytes: int) -> Iterator[Batch]:
    """The array is here: no second process could be faster."""
    ready = ready_batch(row_nbytes)
    while True:
        yield (ready,)


def endless(batches: Callable[[], Iterator[Batch]]) -> Drive:
    """There are no epochs here: one that never ends."""
    return reading(lambda: iter([batches()]), SameBytes(), has_epochs=False)


def case(name: str, source: type[SameBatch]) -> Case:
    size = source.row_nbytes
    arms = [
        Arm(OURS, endless(partial(ours, source.__name__, size))),
        Arm("floor: 2 processes, numpy.copyto into as many shared slots", counting(partial(copyto, size), ROWS)),
        Arm("multiprocessing.Queue, 2 processes", endless(partial(queue, size))),
        Arm("ZeroMQ ipc, frames, copy=False, 2 processes", endless(partial(zeromq, size))),
        Arm("PyTorch DataLoader, 2 workers", endless(partial(torch_loader, size)), needs="torch"),
        Arm("no hand-over: a loop in one process", endless(partial(nothing, size))),
    ]
    return Case(f"hand-over, {name}", ROWS * size, ROWS, arms, "batches", {"prefetch": PREFETCH[size]})


CASES = [case("32 KiB", Small), case("9.6 MB", Large)]

if __name__ == "__main__":
    main("benchmarks.handover", __doc__ or "", CASES)
