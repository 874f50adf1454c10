"""TensorFlow and Keras over shared memory: the right batches, and not one byte copied on the way."""

import gc
import os
import weakref

import numpy as np
import pytest

import loader_client
from loader_service import Dataset
from tests.end_to_end.conftest import DATA_PARALLEL, digest, expected_digest, run_script

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


def test_rows_of_different_lengths_are_ragged_tensors_and_strings_are_strings(user_module):
    words = ["", "a", "größer", "日本", "e"]
    user_module("sayings", f"source = [{{'x': [1.5] * i, 'y': i, 'said': word}} for i, word in enumerate({words!r})]\n")
    dataset = Dataset.from_python("sayings:source").ragged("x", most=9).batch(3)
    with loader_client.connect(workers=1) as loader:
        batches = list(loader.stream(dataset).tf_data(inputs=["x", "said"], targets="y"))

    assert [row for x, _ in batches for row in x["x"].to_list()] == [[1.5] * i for i in range(5)]
    assert [text.decode() for x, _ in batches for text in x["said"].numpy()] == words
    assert batches[0][0]["x"].dtype == tf.float64


def test_a_model_with_a_masked_layer_trains_on_padded_sequences(numbers):
    rows = [np.ones((k, 2), np.float32) for k in (3, 1, 7, 4, 2, 6)]
    dataset = Dataset.from_arrays(x=rows, y=np.arange(6, dtype=np.float32)).pad("x").shuffle(1).batch(2)
    model = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.Masking(), keras.layers.GRU(3), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    with loader_client.connect(workers=1) as loader:
        history = model.fit(loader.stream(dataset).keras(), epochs=2, verbose=0)

    assert np.isfinite(history.history["loss"]).all()


def test_tf_data_is_one_epoch_after_the_other(numbers):
    dataset = numbers.shuffle(seed=1).batch(16)
    with loader_client.connect(workers=2) as loader:
        epochs = loader.stream(dataset).tf_data()
        seen = [{"x": x.numpy(), "y": y.numpy()} for _ in range(2) for x, y in epochs]

    assert digest(seen) == expected_digest(dataset, range(14))


def test_validation_sees_the_same_batches_each_time_on_the_same_workers(numbers, recorder):
    train, validation = numbers.shuffle(seed=4).batch(16), numbers.batch(25)
    with loader_client.connect(workers=2) as loader:
        recorder.fit(
            loader.stream(train).keras(), epochs=3, validation_data=loader.stream(validation).keras(), verbose=0
        )

    assert recorder.trained == [train.compute(n)["y"].astype(int).tolist() for n in range(21)]
    assert recorder.tested == 3 * [validation.compute(n)["y"].astype(int).tolist() for n in range(4)]


def test_fit_takes_tf_data_without_a_warning(numbers, recorder):
    """It knows how many batches an epoch has; one that somebody has looked into goes on behind that."""
    dataset = numbers.shuffle(seed=4).batch(16)
    with loader_client.connect(workers=1) as loader:
        data = loader.stream(dataset).tf_data()
        recorder.fit(data, epochs=2, verbose=0, shuffle=False)
        looked_at = [y.numpy().astype(int).tolist() for _, y in data.take(2)]
        rest = [y.numpy().astype(int).tolist() for _, y in data]

    assert len(data) == 7
    assert recorder.trained + looked_at + rest == [dataset.compute(n)["y"].astype(int).tolist() for n in range(21)]


def test_a_padded_stream_compiles_once():
    """Its shapes are static, so the short last batch is not traced, nor compiled, a second time."""
    column = np.arange(100, dtype=np.float32)[:, None] / 100
    fractions = Dataset.from_arrays(x=column, y=column)
    traced = []

    def loss(y, predicted):
        traced.append(y.shape)
        return keras.losses.mean_squared_error(y, predicted)

    trained = {}
    with loader_client.connect(workers=1) as loader:
        for remainder in ("keep", "pad"):
            model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
            model.compile("sgd", loss, jit_compile=remainder == "pad")
            traced.clear()
            model.fit(loader.stream(fractions.batch(64, remainder)).keras(), epochs=3, verbose=0)
            trained[remainder] = np.concatenate([weights.ravel() for weights in model.get_weights()])

    assert traced == [(64, 1)]
    assert trained["pad"] == pytest.approx(trained["keep"], rel=1e-5)


@pytest.mark.slow
def test_a_mirrored_strategy_trains_each_sample_once():
    """Two devices share each batch; TensorFlow draws ahead for them, and the cursor still counts what is trained."""
    told = run_script(DATA_PARALLEL.read_text(), env={**os.environ, "KERAS_BACKEND": "tensorflow"})

    assert told.returncode == 0, told.stderr


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


def test_a_tf_dataset_keeps_its_stream_and_tensorflow_does_not(pictures):
    """TensorFlow keeps the functions of every dataset for as long as the process lives."""
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).batch(16)
    with loader_client.connect(workers=1) as loader:
        mapped = loader.stream(dataset).tf_data().map(lambda image, label: label)
        gc.collect()
        assert sum(len(labels) for labels in mapped) == 74

        begun = iter(loader.stream(dataset).tf_data())
        gc.collect()
        assert len(next(begun)[1]) == 16

        streams = [loader.stream(dataset) for _ in range(2)]
        gone = [weakref.ref(stream) for stream in streams]
        for _ in streams[0].tf_data():
            pass
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(streams[1].keras(), verbose=0)
        streams.clear()
        gc.collect()

        assert [reference() for reference in gone] == [None, None]
