"""What Keras' models get of a stream: which samples, in which order, how often. On any backend of Keras.

The ids are an input, and are noted where the model steps: what an iterator draws proves nothing. The dataset has five
batches an epoch.
"""

import copy
import json
import pickle

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset

keras = pytest.importorskip("keras")

# Keras' own, on backends other than TensorFlow
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
BACKEND = keras.backend.backend()
EPOCH = 5  # batches


@pytest.fixture(scope="module")
def shared_loader():
    """One daemon for all tests: starting one takes longer than most of them."""
    with loader_client.connect(workers=1) as loader:
        yield loader


@pytest.fixture
def open_stream(shared_loader):
    """Return a function that opens a stream; it is closed with the test."""
    streams = []

    def stream(dataset):
        streams.append(shared_loader.stream(dataset))
        return streams[-1]

    yield stream
    for stream in streams:
        stream.close()


@pytest.fixture
def ordered():
    """Twenty-two samples, each of which tells its id."""
    ids = np.arange(22)
    return Dataset.from_arrays(x=ids.astype(np.float32)[:, None], y=(ids % 3).astype(np.float32), w=ids / 22.0)


@pytest.fixture
def shuffled(ordered):
    return ordered.shuffle(seed=3).batch(5)


class Recorder(keras.Model):
    """Notes the ids of the samples that it is trained on, tested on, and asked to predict."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen = {"train": [], "test": [], "predict": []}

    def call(self, inputs):
        return self.dense(inputs["x"] if isinstance(inputs, dict) else inputs)

    def note(self, phase, data):
        x = data[0] if isinstance(data, (tuple, list)) else data
        x = x["x"] if isinstance(x, dict) else x
        self.seen[phase].append(keras.ops.convert_to_numpy(x)[:, 0].astype(int).tolist())

    def train_step(self, *state_and_data):
        self.note("train", state_and_data[-1])
        return super().train_step(*state_and_data)

    def test_step(self, *state_and_data):
        self.note("test", state_and_data[-1])
        return super().test_step(*state_and_data)

    def predict_step(self, *state_and_data):
        self.note("predict", state_and_data[-1])
        return super().predict_step(*state_and_data)


@pytest.fixture
def model():
    """A model that is not built yet: Keras peeks at a batch to build it."""
    model = Recorder()
    model.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    return model


class AtBatch(keras.callbacks.Callback):
    """Calls a function after one training batch."""

    def __init__(self, batch, then):
        super().__init__()
        self.batch, self.then = batch, then

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.then(self.model)


def stop_training(model):
    model.stop_training = True


def interrupt(model):
    raise KeyboardInterrupt


def ids(dataset, numbers):
    return [dataset.compute(n)["x"][:, 0].astype(int).tolist() for n in numbers]


def fit(model, x, **options):
    return model.fit(x, verbose=0, **options)


# -- passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize("order", ["shuffled", "ordered"])
def test_fit_trains_each_sample_once_an_epoch(open_stream, model, ordered, order, remainder):
    dataset = (ordered.shuffle(seed=3) if order == "shuffled" else ordered).batch(5, remainder)
    stream = open_stream(dataset)

    fit(model, stream.keras(), epochs=3)

    epoch = len(stream)
    assert epoch == (EPOCH - 1 if remainder == "drop" else EPOCH)
    expected = range(3 * epoch) if order == "shuffled" else [*range(epoch)] * 3
    assert model.seen["train"] == ids(dataset, expected)
    assert stream.cursor == (3 * epoch if order == "shuffled" else 0)


@pytest.mark.parametrize("order", ["shuffled", "ordered"])
def test_passes_of_batches_that_come_in_bundles_are_those_of_single_ones(shared_loader, order):
    """Of two each; an epoch has 129, the last one is short, and passes begin and end within a bundle."""
    numbers = np.arange(129 * 2 - 1)
    dataset = Dataset.from_arrays(x=numbers.astype(np.float32)[:, None], y=numbers % 3 / 2)
    dataset = (dataset.shuffle(seed=3) if order == "shuffled" else dataset).batch(2)
    found = []
    for loader in (shared_loader, loader_client.connect(workers=0)):
        model = Recorder()
        model.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
        with loader.stream(dataset) as stream:
            cursors = []
            for callbacks in ([AtBatch(4, stop_training)], []):
                fit(model, stream.keras(), epochs=2, callbacks=callbacks)
                cursors.append(stream.cursor)
            fit(model, stream.keras(steps=7), epochs=3)
            fit(model, stream.keras(), epochs=2, steps_per_epoch=5)
            cursors.append(stream.cursor)
            model.evaluate(stream.keras(advance=False), steps=7, verbose=0)
            model.predict(stream.keras(advance=False), verbose=0)
            found.append((model.seen, cursors, stream.cursor))

    bundled, single = found
    assert bundled == single
    assert len(single[0]["train"]) == 5 + 2 * 129 + 3 * 7 + 2 * 5


STEPS = {  # steps_per_epoch, steps -> the batches of three passes over a shuffled dataset
    (3, None): [0, 1, 2, 5, 6, 7, 10, 11, 12],
    (5, None): [*range(15)],
    (7, None): [*range(7), *range(10, 17), *range(20, 27)],
    (None, 3): [*range(9)],
    (None, 7): [*range(21)],
    (2, 3): [*range(6)],
}


@pytest.mark.parametrize(("steps_per_epoch", "steps"), STEPS)
def test_steps_of_an_epoch(open_stream, model, shuffled, steps_per_epoch, steps):
    stream = open_stream(shuffled)
    expected = STEPS[steps_per_epoch, steps]
    options = {} if steps_per_epoch is None else {"steps_per_epoch": steps_per_epoch}

    fit(model, stream.keras(steps=steps), epochs=3, **options)

    assert model.seen["train"] == ids(shuffled, expected)
    assert stream.cursor == expected[-1] + 1


def test_steps_per_epoch_of_what_is_not_shuffled_begins_with_the_first_batch(open_stream, model, ordered):
    dataset = ordered.batch(5)

    fit(model, open_stream(dataset).keras(), epochs=2, steps_per_epoch=3)
    fit(model, open_stream(dataset).keras(), epochs=2, steps_per_epoch=7)

    assert model.seen["train"] == ids(dataset, [0, 1, 2] * 2 + [0, 1, 2, 3, 4, 0, 1] * 2)


def test_steps_of_what_is_not_shuffled_roll_over(open_stream, model, ordered):
    dataset = ordered.batch(5)

    fit(model, open_stream(dataset).keras(steps=3), epochs=3)

    assert model.seen["train"] == ids(dataset, range(9))


@pytest.mark.skipif(BACKEND == "torch", reason="torch has none")
@pytest.mark.parametrize(
    ("options", "expected"), [({}, [*range(10)]), ({"steps_per_epoch": 3}, [0, 1, 2, 3, 5, 6, 7, 8])]
)
def test_several_steps_in_one_execution(open_stream, model, shuffled, options, expected):
    """Keras runs whole executions: three steps, in twos, are four."""
    model.compile("sgd", "mse", run_eagerly=True, jit_compile=False, steps_per_execution=2)
    stream = open_stream(shuffled)

    fit(model, stream.keras(), epochs=2, **options)

    assert model.seen["train"] == ids(shuffled, expected)
    assert stream.cursor == expected[-1] + 1


@pytest.mark.parametrize("order", ["shuffled", "ordered"])
def test_evaluate_and_predict(open_stream, model, ordered, order):
    """Again and again the same of what is ordered, the next epoch of what is shuffled."""
    dataset = (ordered.shuffle(seed=3) if order == "shuffled" else ordered).batch(5)
    data = open_stream(dataset).keras()

    losses = [model.evaluate(data, verbose=0) for _ in range(2)]
    predicted = model.predict(data, verbose=0)
    model.predict(data, verbose=0, steps=2)
    losses.append(model.evaluate(data, verbose=0, steps=2))

    first, second, third, fourth, fifth = (
        [range(k, k + 5) for k in (0, 5, 10, 15, 20)] if order == "shuffled" else [range(5)] * 5
    )
    assert model.seen["test"] == ids(dataset, [*first, *second, *fifth[:2]])
    assert model.seen["predict"] == ids(dataset, [*third, *fourth[:2]])
    assert predicted.shape == (22, 1)
    assert order == "shuffled" or losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("options", [{}, {"validation_steps": 2}, {"validation_steps": 7}, {"validation_freq": 2}])
def test_validation_sees_the_same_batches_each_time(open_stream, model, ordered, shuffled, options):
    held_out = ordered.batch(4)
    stream = open_stream(shuffled)

    fit(model, stream.keras(), epochs=4, validation_data=open_stream(held_out).keras(), **options)

    times = 2 if "validation_freq" in options else 4
    assert model.seen["train"] == ids(shuffled, range(20))
    seen = [n % 6 for n in range(options.get("validation_steps", 6))]
    assert model.seen["test"] == ids(held_out, seen * times)


def test_validation_on_what_is_shuffled_goes_on(open_stream, model, ordered, shuffled):
    held_out = ordered.shuffle(seed=8).batch(10)

    fit(model, open_stream(shuffled).keras(), epochs=2, validation_data=open_stream(held_out).keras())

    assert model.seen["test"] == ids(held_out, range(6))


def test_one_adapter_for_training_and_validation(open_stream, model, shuffled):
    """One stream, one cursor: the passes take turns."""
    data = open_stream(shuffled).keras()

    fit(model, data, epochs=2, validation_data=data)

    assert model.seen["train"] == ids(shuffled, [*range(5), *range(10, 15)])
    assert model.seen["test"] == ids(shuffled, [*range(5, 10), *range(15, 20)])


def test_a_pass_that_starts_again_leaves_the_cursor_alone(open_stream, model, shuffled):
    stream = open_stream(shuffled)

    fit(model, stream.keras(), epochs=1, validation_data=stream.keras(advance=False))
    model.evaluate(stream.keras(advance=False), verbose=0)
    fit(model, stream.keras(), epochs=1)

    assert model.seen["train"] == ids(shuffled, range(10))
    assert model.seen["test"] == ids(shuffled, [*range(5)] * 2)


def test_two_models_on_two_streams_in_turn(open_stream, model, shuffled):
    other = Recorder()
    other.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    streams = open_stream(shuffled), open_stream(shuffled)

    for _ in range(2):
        for trained, stream in zip((model, other), streams, strict=True):
            fit(trained, stream.keras(), epochs=1)

    assert model.seen["train"] == other.seen["train"] == ids(shuffled, range(10))


def test_fit_between_loops_by_hand(open_stream, model, shuffled):
    """Nobody is asked for what another has had."""
    stream = open_stream(shuffled)
    by_hand = [batch.n for batch in stream]

    fit(model, stream.keras(), epochs=1)
    by_hand += [batch.n for batch in stream]
    by_hand += [int(x[0, 0]) for x, _ in stream.keras().get_numpy_iterator()]

    assert model.seen["train"] == ids(shuffled, range(5, 10))
    assert by_hand == [*range(5), *range(10, 15), *(batch[0] for batch in ids(shuffled, range(15, 20)))]
    assert stream.cursor == 20


def test_what_a_model_steps_on_lies_in_the_slot(open_stream):
    """Not one copy after the worker's write; on torch one, since it knows no read-only memory.

    Of TensorFlow's batches, the small ones are copied, several at once: that takes less than to hand them over singly.
    """
    rows = np.zeros((5 * EPOCH, 2**13), np.float32)
    stream = open_stream(Dataset.from_arrays(x=rows, y=rows[:, 0]).batch(5))
    (arena,) = stream._supply._channel.arenas.values()
    begin = arena.__array_interface__["data"][0]
    addresses = []

    class Pointing(Recorder):
        def note(self, phase, data):
            x = data[0]
            array = np.asarray(memoryview(x)) if BACKEND == "tensorflow" else x
            addresses.append(x.data_ptr() if BACKEND == "torch" else array.__array_interface__["data"][0])

    model = Pointing()
    model.compile("sgd", "mse", run_eagerly=True, jit_compile=False)
    fit(model, stream.keras(), epochs=2)

    assert len(addresses) == 2 * EPOCH
    assert [begin <= address < begin + arena.nbytes for address in addresses] == [BACKEND != "torch"] * 2 * EPOCH
    if BACKEND != "torch":
        assert {address % 64 for address in addresses} == {0}


# -- the cursor ------------------------------------------------------------------------------------------------


def test_the_state_in_a_callback_is_that_after_its_batch(open_stream, model, shuffled):
    stream = open_stream(shuffled)
    cursors = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: cursors.append(stream.state_dict()["n"]),
        on_epoch_end=lambda epoch, logs: cursors.append(stream.state_dict()["n"]),
    )

    fit(model, stream.keras(), epochs=2, callbacks=[watch])

    assert cursors == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10]


@pytest.mark.parametrize("options", [{}, {"steps_per_epoch": 3}])
def test_the_pass_after_one_that_was_stopped_is_the_next_epoch(open_stream, model, shuffled, options):
    """Whatever broke it off; and the state still tells where."""
    stream = open_stream(shuffled)

    fit(model, stream.keras(), epochs=4, callbacks=[AtBatch(1, stop_training)])
    assert stream.cursor == 2
    with pytest.raises(KeyboardInterrupt):
        fit(model, stream.keras(), epochs=4, callbacks=[AtBatch(2, interrupt)])
    assert stream.cursor == 8
    fit(model, stream.keras(), epochs=1, **options)

    assert model.seen["train"] == ids(shuffled, [0, 1, 5, 6, 7, *range(10, 13 if options else 15)])


def test_steps_go_on_where_they_were_stopped(open_stream, model, shuffled):
    stream = open_stream(shuffled)

    fit(model, stream.keras(steps=4), epochs=4, callbacks=[AtBatch(1, stop_training)])
    fit(model, stream.keras(steps=4), epochs=2)

    assert model.seen["train"] == ids(shuffled, range(10))


@pytest.mark.parametrize("interrupted", [stop_training, interrupt])
def test_training_goes_on_in_mid_epoch_from_a_state(open_stream, model, shuffled, interrupted):
    """Without a warning of Keras' that data had run out: the first pass is the rest of the epoch."""
    stream = open_stream(shuffled)
    with pytest.raises(KeyboardInterrupt) if interrupted is interrupt else pytest.MonkeyPatch.context():
        fit(model, stream.keras(), epochs=4, callbacks=[AtBatch(1, interrupted)])

    for again in (stream, open_stream(shuffled)):
        again.load_state_dict(stream.state_dict())
        model.seen["train"].clear()
        fit(model, again.keras(), epochs=3)

        assert model.seen["train"] == ids(shuffled, range(2, 15))
        stream.load_state_dict({**stream.state_dict(), "n": 2})


def test_a_last_batch_can_be_what_is_left(open_stream, model, shuffled):
    stream = open_stream(shuffled)
    stream.take(3)

    fit(model, stream.keras(), epochs=2)

    assert model.seen["train"] == ids(shuffled, range(4, 10))


# -- fields ----------------------------------------------------------------------------------------------------


def test_several_inputs_and_targets_are_dicts_by_name(open_stream, ordered):
    x, w = keras.Input((1,), name="x"), keras.Input((1,), name="z")
    both = keras.layers.Concatenate()([x, w])
    model = keras.Model(
        {"x": x, "z": w}, {"y": keras.layers.Dense(1, name="y")(both), "v": keras.layers.Dense(1, name="v")(both)}
    )
    model.compile("sgd", {"y": "mse", "v": "mae"})
    column = np.arange(22, dtype=np.float32)[:, None] / 22
    fields = Dataset.from_arrays(x=column, z=column + 1, y=column * 2, v=column * 3, w=np.full(22, 0.5, np.float32))
    expected = model.evaluate(
        {"x": column, "z": column + 1},
        {"y": column * 2, "v": column * 3},
        sample_weight=np.full(22, 0.5, np.float32),
        batch_size=5,
        verbose=0,
    )

    data = open_stream(fields.batch(5)).keras(inputs=["x", "z"], targets=["y", "v"], weights="w")

    assert model.evaluate(data, verbose=0)[0] == pytest.approx(expected[0], rel=1e-5)
    predicted = model.predict(data, verbose=0)
    assert {name: values.shape for name, values in predicted.items()} == {"y": (22, 1), "v": (22, 1)}


def linear():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(1 / 22), keras.layers.Dense(1)])
    model.layers[-1].set_weights([np.array([[0.5]], np.float32), np.array([0.25], np.float32)])
    model.compile(keras.optimizers.SGD(0.1), "mse", weighted_metrics=["mae"], run_eagerly=True, jit_compile=False)
    return model


def trained(data, **options):
    model = linear()
    fit(model, data, epochs=3, **options)
    return np.concatenate([weights.ravel() for weights in model.get_weights()])


def test_sample_weights_weigh(open_stream, ordered):
    dataset = ordered.batch(5)
    epoch = [dataset.compute(n) for n in range(EPOCH)]
    x, y, w = (np.concatenate([batch[name] for batch in epoch]) for name in "xyw")

    ours = trained(open_stream(dataset).keras(weights="w"))

    assert ours == pytest.approx(trained(x, y=y, sample_weight=w, batch_size=5, shuffle=False), rel=1e-5)


@pytest.mark.parametrize("order", ["shuffled", "ordered"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_padding_changes_neither_training_nor_losses(open_stream, ordered, order, weights):
    dataset = ordered.shuffle(seed=3) if order == "shuffled" else ordered
    kept, padded = (open_stream(dataset.batch(5, remainder)) for remainder in ("keep", "pad"))

    assert trained(padded.keras(weights=weights)) == pytest.approx(trained(kept.keras(weights=weights)), rel=1e-5)
    model = linear()
    for steps in (None, 2, 7):
        ours, theirs = (
            model.evaluate(stream.keras(weights=weights, advance=False), verbose=0, steps=steps)
            for stream in (padded, kept)
        )
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_padded_stream_without_targets_is_predicted(open_stream, ordered):
    data = open_stream(ordered.batch(5, remainder="pad")).keras(inputs="x", targets=[])

    assert linear().predict(data, verbose=0).shape == (25, 1)


# -- class weights ---------------------------------------------------------------------------------------------


def labelled(kind):
    """Rows of three classes."""
    label = np.arange(22) % 3
    labels = {"ids": label, "column": label[:, None].astype(np.uint8), "one_hot": np.eye(3, dtype=np.float32)[label]}
    return Dataset.from_arrays(
        x=np.arange(22, dtype=np.float32)[:, None], y=labels[kind], w=np.linspace(0, 1, 22, dtype=np.float32)
    )


@pytest.mark.parametrize("kind", ["ids", "column", "one_hot"])
@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_class_weights_are_those_of_keras(open_stream, kind, remainder):
    """Classes that are not named weigh 1."""
    dataset = labelled(kind).batch(5)
    x, y = (np.concatenate([dataset.compute(n)[name] for n in range(EPOCH)]) for name in "xy")
    class_weight = {0: 0.5, 2: 3.0}

    ours = trained(open_stream(labelled(kind).batch(5, remainder)).keras(class_weight=class_weight))

    theirs = trained(x, y=y, class_weight=class_weight, batch_size=5, shuffle=False)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_class_weights_multiply_the_weights_of_samples(open_stream):
    data = open_stream(labelled("ids").batch(22)).keras(weights="w", class_weight={1: 5.0})

    ((_, labels, weights),) = data.get_numpy_iterator()

    assert weights.dtype == np.float32
    assert weights == pytest.approx(np.linspace(0, 1, 22) * np.where(labels == 1, 5, 1))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"class_weight": {3: 1.0}, "targets": "hot"}, "class 3, expected an integer from 0 to 2"),
        ({"class_weight": {-1: 1.0}}, "class -1, expected an integer from 0"),
        ({"class_weight": {"cat": 1.0}}, "class 'cat', expected an integer"),
        ({"class_weight": {0: float("nan")}}, "the weight nan, expected a number"),
        ({"class_weight": {0: 2.0}, "targets": "price"}, r"is float32 \(\).*cast\('price', 'int64'\)"),
        ({"class_weight": {0: 2.0}, "targets": "mask"}, "one label a sample"),
        ({"class_weight": {0: 2.0}, "targets": ["y", "hot"]}, "one target that tells the class"),
        ({"class_weight": {0: 2.0}, "targets": []}, "one target that tells the class"),
        ({"weights": "price", "targets": []}, "needs targets to weigh"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(open_stream, options, told):
    fields = Dataset.from_arrays(
        x=np.zeros((8, 1), np.float32),
        y=np.zeros(8, np.int64),
        hot=np.zeros((8, 3), np.float32),
        price=np.zeros(8, np.float32),
        mask=np.zeros((8, 4, 4), np.uint8),
    )

    with pytest.raises(DatasetError, match=told):
        open_stream(fields.batch(4)).keras(**options)


@pytest.mark.parametrize(
    ("argument", "value", "instead"),
    [("class_weight", {0: 1.0}, "class_weight"), ("y", np.zeros(22), "targets"), ("sample_weight", [1], "weights")],
)
def test_what_keras_would_drop_without_a_word_is_refused(open_stream, shuffled, argument, value, instead):
    with pytest.raises(ValueError, match=rf"{argument}= has no effect on a stream: say stream.keras\({instead}=...\)"):
        fit(linear(), open_stream(shuffled).keras(), **{argument: value})


class Asking(keras.callbacks.Callback):
    """Compares with the number of steps that Keras tells callbacks, as many do."""

    def on_train_batch_begin(self, batch, logs=None):
        assert not batch >= self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        self.last = batch + 1 >= self.params["steps"]


def test_a_callback_that_asks_for_the_steps_changes_nothing(open_stream, model, shuffled):
    stream = open_stream(shuffled)
    asking = Asking()

    history = fit(model, stream.keras(), epochs=2, callbacks=[asking])

    assert asking.last
    assert model.seen["train"] == ids(shuffled, range(2 * EPOCH))
    assert stream.cursor == 2 * EPOCH
    assert json.loads(json.dumps(history.params)) == pickle.loads(pickle.dumps(history.params))
    assert copy.deepcopy(history.params) == {"verbose": 0, "epochs": 2, "steps": EPOCH}
