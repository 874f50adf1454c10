"""`wrap`: an existing Keras Sequence, as it is, in the workers of a daemon of its own."""

from __future__ import annotations

from typing import Any

from loader_client.loader import connect, connect_privately
from loader_client.stream import Stream


def wrap(
    sequence: Any,
    workers: int | None = None,
    *,
    seed: int = 0,
    prefetch: int | None = None,
    memory: str | int | None = None,
    task_timeout: float | None = None,
) -> Stream:
    """Return a stream of the batches of a `keras.utils.PyDataset` (or `Sequence`), made by worker processes.

    A private daemon is started, which ends with the stream: use `with`, or `close`. The object is sent once, as it is
    now, and each worker has a copy of it; the one that is given is not touched.

    Args:
        sequence: The object; or the import path of a function that makes it, "my_classes:make_training".
        workers: Processes; one for each core but one where None. 0 runs everything in this process.
        seed: Of all that is random in it: `random`, `numpy.random`, and generators in its attributes.
        prefetch: Batches that are asked for ahead; where None, as `Loader.stream` chooses.
        memory: As in `connect`.
        task_timeout: Seconds that one batch may take.
    Warns:
        DatasetWarning: If the object makes another batch each time that it is asked for the same one.
    Raises:
        DatasetError: If it cannot be pickled, or its batches are nothing that Keras could take.
    """
    from loader_service import Dataset

    dataset = Dataset.from_keras(sequence, seed=seed)
    if workers == 0:
        loader = connect(workers=0)
    else:
        loader = connect_privately(workers, memory=memory, task_timeout=task_timeout)
    try:
        stream = loader.stream(dataset, prefetch)
    except BaseException:
        loader.close()
        raise
    stream.own(loader)
    return stream
