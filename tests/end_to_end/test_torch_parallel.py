"""PyTorch's own data parallel training, two processes on gloo: each gets its half of every batch."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from loader_service import Dataset
from tests.end_to_end.conftest import PATIENCE

pytest.importorskip("torch")

TRAINER = """
import json, os, sys
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

import loader_client
from loader_service import Dataset

rank, count, epochs = int(sys.argv[2]), int(sys.argv[3]), 3
dataset = Dataset.from_dict(json.loads(sys.argv[1]))
if count > 1:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=count)
torch.manual_seed(0)
model = torch.nn.Linear(6, 1, dtype=torch.float64)
trained = DistributedDataParallel(model) if count > 1 else model
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
steps, ids = [], []
with loader_client.connect() as loader:
    stream = loader.stream(dataset, shard=(rank, count))
    for _ in range(epochs):
        batches = stream.torch(inputs=["x", "id"], targets="y")
        for fields, y in torch.utils.data.DataLoader(batches, batch_size=None):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(trained(fields["x"]), y).backward()
            optimizer.step()
            ids.append(fields["id"].tolist())
        steps.append(len(ids))
if count > 1:
    torch.distributed.destroy_process_group()
print(json.dumps({"weights": model.weight.tolist(), "steps": steps, "ids": ids}))
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def train(dataset, count, environment):
    """Run `count` processes of one training; return what each of them tells."""
    declared = json.dumps(dataset.to_dict())
    where = {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINER, declared, str(rank), str(count)],
            env=where,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    told = [rank.communicate(timeout=PATIENCE) for rank in ranks]
    assert not any(rank.returncode for rank in ranks), told
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def test_two_ranks_train_as_one_process_does(tmp_path, start_daemon):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.random((72, 6)))
    np.save(tmp_path / "y.npy", rng.random((72, 1)))
    np.save(tmp_path / "id.npy", np.arange(72))
    dataset = Dataset.from_arrays(**{name: tmp_path / f"{name}.npy" for name in ("x", "y", "id")})
    dataset = dataset.shuffle(seed=3).batch(20, remainder="drop")
    start_daemon("--workers", "2")

    (alone,) = train(dataset, 1, os.environ)
    first, second = train(dataset, 2, os.environ)

    assert alone["steps"] == first["steps"] == second["steps"] == [3, 6, 9]
    assert [a + b for a, b in zip(first["ids"], second["ids"], strict=True)] == alone["ids"]
    assert first["weights"] == second["weights"]
    assert np.allclose(first["weights"], alone["weights"], rtol=0, atol=1e-12)
