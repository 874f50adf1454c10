"""JAX over shared memory: no copy, no slot refilled under an array; and Keras on JAX."""

import os

import numpy as np
import pytest

from tests.end_to_end.conftest import DATA_PARALLEL, keras_on, run_script

jax = pytest.importorskip("jax")


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def test_keras_on_jax():
    """All that test_keras.py says."""
    keras_on("jax")


def test_data_parallel_on_two_devices_trains_each_sample_once():
    told = run_script(DATA_PARALLEL.read_text(), env={**os.environ, "KERAS_BACKEND": "jax"})

    assert told.returncode == 0, told.stderr


def test_a_jax_array_lies_over_the_slot_and_keeps_it(few_slots):
    """Arrays that alias slots stay as they are while the stream goes over its few slots; then the slots come back."""
    kept = []
    for epoch in range(10):
        for batch in few_slots:
            if epoch == 0 and batch.n in (1, 3):
                kept.append(jax.device_put(batch["x"]))
            if batch.n == 1:  # the third may be a copy: slots are short by then
                assert kept[0].unsafe_buffer_pointer() == batch["x"].__array_interface__["data"][0]
    copied = few_slots.stats()["copied_batches"]
    assert copied > 0  # one slot less to go over

    assert [np.unique(array).tolist() for array in kept] == [[1], [3]]
    del kept, batch
    for _ in range(3):
        for batch in few_slots:
            assert np.unique(batch["x"]) == batch.n % len(few_slots)
            del batch
    assert few_slots.stats()["copied_batches"] == copied
