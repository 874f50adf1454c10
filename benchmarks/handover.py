"""How much does the hand-over of one batch cost, where making it costs nothing?

Method   A source whose rows are ready: a worker copies them to where the client reads them. 64 rows of 512 B (32 KiB)
         and of 150,528 B (9.6 MB). Two workers, plain iteration; every reader looks at the first byte and at the
         last. Each repeat of an arm is a new process: 1 s of warm-up, then 3 s timed; arms take turns; median of 3
         (min..max). Prefetch 128 and 8 batches, for the queues of the others as well; one thread for each library.
Machine  2 cores Intel Xeon 2.8 GHz, 24 GiB, Linux 6.18, Python 3.11                                   2026-11-21
Result   batches/s          32 KiB                       9.6 MB
         ours               32,943 (31,395..33,781)      1,608 (1,563..1,720)
         numpy.copyto       913,623                      1,605 (1,576..1,646)    two processes, as many shared slots
         Queue              23,448 (20,481..25,321)      42 (39..43)
         ZeroMQ frames      66,454 (64,717..71,361)      377 (374..426)
         DataLoader         1,001 (996..1,328)           239 (227..247)
We lose  to a loop over an array that is in this process already; and, with small batches, to bare ZeroMQ frames: ours
         are ordered, counted, made again where a worker dies, and take several messages.
Not shown  reading and decoding, what a framework does with the batch, a reader that works while batches are made, more
         than one reader. The large case is bound by memory. Our workers copy past the caches (GLIBC_TUNABLES, see
         loader_service/pool/engine.py), the bare numpy.copyto does not: with it, that floor is 1.8 times higher.

    python -m benchmarks.handover --json handover.jsonl        (--seconds 3 --repeats 3)
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Arm, Case, Counter, counted, fork, main, processes

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


def touch(batch: Any) -> None:
    """What every reader does with a batch: the first byte and the last one."""
    assert batch[0, 0] + batch[-1, -1] == 14, "the bytes are those of the ready batch"


# -- the arms ------------------------------------------------------------------------------------------------------


def ours(source: str, row_nbytes: int) -> Iterator[int]:
    import loader_client
    from loader_service import Dataset

    dataset = Dataset.from_python(f"benchmarks.handover:{source}").batch(ROWS)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset, prefetch=PREFETCH[row_nbytes])
        while True:
            for batch in stream:
                touch(batch["x"])
                yield 1


def copyto(row_nbytes: int) -> Iterator[int]:
    """Two processes fill shared slots as fast as they can; nobody reads, nobody is told."""
    slots = PREFETCH[row_nbytes] + SPARE_SLOTS
    arena = mmap.mmap(-1, slots * ROWS * row_nbytes)  # anonymous and shared, as a memfd's mapping
    views = np.frombuffer(arena, np.uint8).reshape(slots, ROWS, row_nbytes)
    views[:] = 0  # no page is touched for the first time later on

    def fill(worker: int, made: Counter) -> None:
        ready = ready_batch(row_nbytes)
        while True:
            for slot in range(worker, slots, 2):
                np.copyto(views[slot], ready)
                made.value += 1

    return counted(fill, workers=2)


def queue(row_nbytes: int) -> Iterator[int]:
    """multiprocessing.Queue: the batch is pickled through a pipe."""
    batches = fork.Queue(PREFETCH[row_nbytes])

    def put() -> None:
        ready = ready_batch(row_nbytes)
        while True:
            batches.put(ready)

    with processes(put, put):
        while True:
            touch(batches.get())
            yield 1


def zeromq(row_nbytes: int) -> Iterator[int]:
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
                touch(np.frombuffer(sock.recv(copy=False), np.uint8).reshape(ROWS, row_nbytes))
                yield 1


def torch_loader(row_nbytes: int) -> Iterator[int]:
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
            touch(batch.numpy())
            yield 1


def nothing(row_nbytes: int) -> Iterator[int]:
    """The array is here: no second process could be faster."""
    ready = ready_batch(row_nbytes)
    while True:
        touch(ready)
        yield 1


def case(name: str, source: type[SameBatch]) -> Case:
    size = source.row_nbytes
    arms = [
        Arm("loader-service, 2 workers", partial(ours, source.__name__, size)),
        Arm("floor: 2 processes, numpy.copyto into as many shared slots", partial(copyto, size)),
        Arm("multiprocessing.Queue, 2 processes", partial(queue, size)),
        Arm("ZeroMQ ipc, frames, copy=False, 2 processes", partial(zeromq, size)),
        Arm("PyTorch DataLoader, 2 workers", partial(torch_loader, size), needs="torch"),
        Arm("no hand-over: a loop in one process", partial(nothing, size)),
    ]
    return Case(name, nbytes=ROWS * size, rows=ROWS, arms=arms, remarks={"prefetch": PREFETCH[size]})


if __name__ == "__main__":
    main("benchmarks.handover", __doc__ or "", [case("32 KiB", Small), case("9.6 MB", Large)])
