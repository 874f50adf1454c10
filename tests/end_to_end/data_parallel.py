"""Train on two devices of this process's CPU, and see that each batch was trained on once, as a whole.

Each sample has a weight of its own, and each time that a model is trained on the sample moves it by the same step.
"""

import os
import warnings

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np

import loader_client
from loader_service import Dataset

warnings.simplefilter("error", UserWarning)  # "Your input ran out of data", for one
SAMPLES, BATCH = 24, 4


def two_devices():
    """Return the scope that a model is made in."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope()
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 2
    return keras.distribution.DataParallel(devices=devices).scope()


class Watch(keras.callbacks.Callback):
    """Notes after each batch which samples it was made of, and where the stream's cursor is."""

    def __init__(self, stream, stop_after=None):
        super().__init__()
        self.stream, self.stop_after = stream, stop_after
        self.trained, self.cursors = [], []

    def on_train_begin(self, logs=None):
        self.before = self.weights()

    def weights(self):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        return keras.ops.convert_to_numpy(self.model.weights[0])[:, 0]

    def on_train_batch_end(self, batch, logs=None):
        now = self.weights()
        times = np.round((now - self.before) * BATCH).astype(int)
        self.trained.append(np.repeat(np.arange(SAMPLES), times).tolist())
        self.cursors.append(self.stream.cursor)
        self.before = now
        if batch == self.stop_after:
            self.model.stop_training = True


def main():
    samples = Dataset.from_arrays(x=np.arange(SAMPLES), y=np.zeros((SAMPLES, 1), np.float32))
    dataset = samples.shuffle(seed=3).batch(BATCH)
    with two_devices(), loader_client.connect(workers=1) as loader:
        model = keras.Sequential([keras.layers.Embedding(SAMPLES, 1, embeddings_initializer="zeros")])
        compiled = keras.backend.backend() == "jax"
        model.compile(keras.optimizers.SGD(1.0), lambda y, predicted: -predicted[:, 0], jit_compile=compiled)
        stream = loader.stream(dataset)

        def train(expected, stop_after=None, **options):
            watch = Watch(stream, stop_after)
            model.fit(stream.keras(), verbose=0, callbacks=[watch], **options)
            assert watch.trained == [sorted(dataset.compute(n)["x"].tolist()) for n in expected], watch.trained
            assert watch.cursors == [n + 1 for n in expected], watch.cursors

        train(range(12), epochs=2)
        train([12, 13, 14, 15, 18, 19, 20, 21], epochs=2, steps_per_epoch=4)
        train([24, 25], epochs=2, stop_after=1)
        stream.load_state_dict(stream.state_dict())
        train(range(26, 36), epochs=2)

        held_out = loader.stream(samples.batch(BATCH)).keras()
        losses = [model.evaluate(held_out, steps=2, verbose=0) for _ in range(3)]
        assert losses[0] == losses[1] == losses[2], losses
        assert len(model.predict(held_out, verbose=0)) == SAMPLES


if __name__ == "__main__":
    main()
