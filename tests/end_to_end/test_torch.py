"""Batches as torch tensors: one copy, which belongs to the reader; and Keras on torch."""

import warnings

import numpy as np
import pytest

import loader_client
from loader_client import StreamClosed
from loader_service import Dataset
from tests.end_to_end.conftest import keras_on

torch = pytest.importorskip("torch")


@pytest.fixture
def dataset():
    """Ten samples, which tell their id, in epochs of three batches."""
    return Dataset.from_arrays(x=np.arange(10, dtype=np.float32), y=np.arange(10) % 2).shuffle(seed=1).batch(4)


def test_keras_on_torch():
    """All that test_keras.py says."""
    keras_on("torch")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_takes_a_stream(dataset, workers):
    """Each pass is the next epoch; tensors are the reader's own, to write into."""
    with loader_client.connect(workers=workers) as loader:
        data = torch.utils.data.DataLoader(loader.stream(dataset).torch(), batch_size=None, num_workers=0)
        passes = [[(x.clone(), y, x.zero_()) for x, y in data] for _ in range(2)]

    assert len(data) == 3
    for n, (x, y, zeroed) in enumerate([*passes[0], *passes[1]]):
        expected = dataset.compute(n)
        assert x.tolist() == expected["x"].tolist()
        assert y.dtype == torch.int64
        assert y.tolist() == expected["y"].tolist()
        assert not zeroed.any()


@pytest.mark.parametrize("workers", [0, 1])
def test_worker_processes_of_torch_are_refused(dataset, workers):
    with loader_client.connect(workers=workers) as loader:
        data = torch.utils.data.DataLoader(loader.stream(dataset).torch(), batch_size=None, num_workers=1)

        with pytest.raises(StreamClosed, match="num_workers=0"):
            next(iter(data))


def test_torch_may_lie_over_the_slot_and_keeps_it(few_slots):
    """`from_numpy` aliases; the slot is not filled again before the tensor is gone."""
    kept = []
    for epoch in range(10):
        for batch in few_slots:
            if epoch == 0 and batch.n in (1, 3):
                with warnings.catch_warnings(action="ignore"):  # that the memory is not writable
                    kept.append(torch.from_numpy(batch["x"]))
                assert kept[-1].data_ptr() == batch["x"].__array_interface__["data"][0]

    assert [tensor.unique().tolist() for tensor in kept] == [[1], [3]]
    del kept, batch
    copied = few_slots.stats()["copied_batches"]
    for _ in range(3):
        for batch in few_slots:
            del batch
    assert few_slots.stats()["copied_batches"] == copied


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensors_of_half_precision_are_torchs_own(dtype):
    """Torch has a bfloat16 of its own, and takes none of NumPy's."""
    dataset = Dataset.from_arrays(x=np.arange(12.0).reshape(4, 3), y=np.arange(4)).cast("x", dtype).batch(4)
    with loader_client.connect(workers=1) as loader:
        ((x, _),) = loader.stream(dataset).torch()

    assert x.dtype == getattr(torch, dtype)
    assert x.float().tolist() == np.arange(12.0).reshape(4, 3).tolist()
