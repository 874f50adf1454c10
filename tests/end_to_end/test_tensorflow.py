"""TensorFlow and Keras over shared memory: the right batches, and not one byte copied on the way."""

import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from tests.end_to_end.conftest import digest, expected_digest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


@pytest.fixture
def numbers():
    """A hundred rows whose label tells which they are."""
    x = np.arange(400, dtype=np.float32).reshape(100, 4)
    return Dataset.from_arrays(x=x, y=np.arange(100, dtype=np.float32))


@pytest.fixture
def recorder():
    """A model that notes the labels of every batch that it is trained or tested on."""

    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)
            self.trained, self.tested = [], []

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, batch):
            self.trained.append(batch[1].numpy().astype(int).tolist())
            return super().train_step(batch)

        def test_step(self, batch):
            self.tested.append(batch[1].numpy().astype(int).tolist())
            return super().test_step(batch)

    model = Recorder()
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def addresses(tensor):
    array = np.asarray(memoryview(tensor))
    start = array.__array_interface__["data"][0]
    return start, start + array.nbytes


def test_a_tensor_lies_over_the_slot(numbers):
    """No copy after the worker's write: the address that a step sees is in the mapping that the worker wrote."""
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(numbers.batch(10))
        (arena,) = stream._supply._channel.arenas.values()
        begin = arena.__array_interface__["data"][0]

        for x, y in stream.tf_data():
            for tensor in (x, y):
                start, end = addresses(tensor)
                assert begin <= start < end <= begin + arena.nbytes
                assert start % 64 == 0


def test_tf_data_is_one_epoch_after_the_other(numbers):
    dataset = numbers.shuffle(seed=1).batch(16)
    with loader_client.connect(workers=2) as loader:
        epochs = loader.stream(dataset).tf_data()
        seen = [{"x": x.numpy(), "y": y.numpy()} for _ in range(2) for x, y in epochs]

    assert digest(seen) == expected_digest(dataset, range(14))


def test_fit_trains_each_epoch_in_its_own_order(numbers, recorder):
    dataset = numbers.shuffle(seed=4).batch(16)
    with loader_client.connect(workers=2) as loader:
        recorder.fit(loader.stream(dataset).keras(), epochs=3, verbose=0)

    assert recorder.trained == [dataset.compute(n)["y"].astype(int).tolist() for n in range(21)]


def test_validation_sees_the_same_batches_each_time_on_the_same_workers(numbers, recorder):
    train, validation = numbers.shuffle(seed=4).batch(16), numbers.batch(25)
    with loader_client.connect(workers=2) as loader:
        recorder.fit(
            loader.stream(train).keras(), epochs=3, validation_data=loader.stream(validation).keras(), verbose=0
        )

    assert recorder.trained == [train.compute(n)["y"].astype(int).tolist() for n in range(21)]
    assert recorder.tested == 3 * [validation.compute(n)["y"].astype(int).tolist() for n in range(4)]


def test_a_second_fit_goes_on_with_the_next_epoch(numbers, recorder):
    dataset = numbers.shuffle(seed=4).batch(50)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        recorder.fit(stream.keras(), epochs=1, verbose=0)
        recorder.fit(stream.keras(), epochs=2, verbose=0)

    assert recorder.trained == [dataset.compute(n)["y"].astype(int).tolist() for n in range(6)]


def test_evaluate_gives_the_same_loss_again_and_predict_every_row(numbers, recorder):
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(numbers.batch(30))
        losses = [recorder.evaluate(stream.keras(), verbose=0) for _ in range(2)]
        predicted = recorder.predict(stream.keras(), verbose=0)

    assert losses[0] == losses[1]
    assert predicted.shape == (100, 1)


def test_padding_rows_have_no_weight(numbers):
    """The loss of a padded epoch is that of the same rows without padding."""
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", weighted_metrics=[])
    with loader_client.connect(workers=2) as loader:
        kept = model.evaluate(loader.stream(numbers.batch(64)).keras(), verbose=0)
        padded = model.evaluate(loader.stream(numbers.batch(64, remainder="pad")).keras(), verbose=0)

    assert padded == pytest.approx(kept, rel=0.35)  # Keras averages batches by their rows, padding included


def test_a_generator_runs_for_ever(numbers):
    dataset = numbers.shuffle(seed=2).batch(40)
    with loader_client.connect(workers=2) as loader:
        generator = loader.stream(dataset).generator()
        labels = [next(generator)[1].tolist() for _ in range(7)]

    assert labels == [dataset.compute(n)["y"].tolist() for n in range(7)]


def test_two_slots_are_enough_for_tf_data():
    """TensorFlow parks references to arrays: a slot that waits for its own successor would be a deadlock."""
    dataset = Dataset.from_arrays(x=np.zeros((4000, 256), np.float32), y=np.arange(4000)).batch(1000)
    with loader_client.connect(workers=2, memory="3 MiB") as loader:
        stream = loader.stream(dataset)
        labels = [y.numpy()[0] for _ in range(10) for _, y in stream.tf_data()]

    assert labels == [0, 1000, 2000, 3000] * 10
