"""tf.data service: the pipeline of tf_data.py in a server process of this machine, read over gRPC.

Its best, for one machine: one worker server with two threads, an endless dataset that is not sharded, so that epochs
flow into one another, and no compression, which costs more than it saves where nothing crosses a network. Dispatcher
and worker are processes of their own, as its documentation starts them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.arms import Epochs, cut
from benchmarks.peers import tf_data
from benchmarks.work import Work

PATIENCE = 30.0  # seconds for a server to start


def does(work: Work) -> bool:
    return tf_data.does(work) and not work.in_python  # a graph alone goes to the server


def dispatcher(told: Connection) -> None:
    import tensorflow as tf

    server = tf.data.experimental.service.DispatchServer()
    told.send(server.target)
    server.join()


def worker(told: Connection, address: str) -> None:
    import tensorflow as tf

    server = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address.partition("://")[2])
    )
    told.send(address)
    server.join()


@contextlib.contextmanager
def servers() -> Iterator[str]:
    """Run both; the address is the dispatcher's."""
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as ending:
        arguments: tuple[str, ...] = ()
        for run in (dispatcher, worker):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=run, args=(theirs, *arguments), daemon=True)
            process.start()
            ending.callback(process.join)
            ending.callback(process.kill)
            assert ours.poll(PATIENCE), f"the {run.__name__} of tf.data service has not started"
            arguments = (ours.recv(),)
        yield arguments[0]


@contextlib.contextmanager
def dataset(work: Work) -> Iterator[Any]:
    import tensorflow as tf

    with servers() as address:
        how = {"processing_mode": tf.data.experimental.service.ShardingPolicy.OFF, "service": address}
        batches = tf_data.dataset(work, endless=True)
        batches = batches.apply(tf.data.experimental.service.distribute(**how, compression=None))
        yield batches.prefetch(work.prefetch)


def epochs(work: Work) -> Epochs:
    with dataset(work) as batches:
        yield from cut(batches.as_numpy_iterator(), work.whole_batches)


@contextlib.contextmanager
def fit_data(work: Work) -> Iterator[tuple[Any, int]]:
    with dataset(work) as batches:
        yield batches, work.whole_batches
