"""Several inputs and targets, in groups; ids beside predictions; small dtypes: as Keras and TensorFlow get them."""

import cv2
import numpy as np
import pytest

import loader_client
from loader_client import DatasetError
from loader_service import Dataset

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

PATIENTS = """
import numpy as np

class Patients:
    def __len__(self):
        return 12

    def __getitem__(self, i):
        scan = np.full((4, 4, 1), i, np.float32)
        blood = {"left": np.ones(2, np.float32), "right": np.ones(3, np.float32)}
        meta = {"age": np.full(1, i, np.float32), "blood": blood}
        return {"image": scan, "meta": meta, "y": {"risk": np.full(1, i, np.float32), "kind": np.int64(i % 3)}}
"""


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """A stream of samples whose fields lie in dicts within dicts."""
    folder = tmp_path_factory.mktemp("patients")
    (folder / "patients.py").write_text(PATIENTS)
    with pytest.MonkeyPatch.context() as patch, loader_client.connect(workers=1) as loader:
        patch.syspath_prepend(folder)
        yield loader.stream(Dataset.from_python("patients:Patients").batch(4))


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


def test_a_batch_has_fields_by_their_whole_names_and_by_group(patients):
    batch = next(iter(patients))

    assert list(batch) == ["image", "meta/age", "meta/blood/left", "meta/blood/right", "y/risk", "y/kind"]
    assert batch["meta/age"].ravel().tolist() == [0, 1, 2, 3]
    assert batch["meta"]["age"] is batch["meta/age"]
    assert {side: array.shape for side, array in batch["meta"]["blood"].items()} == {"left": (4, 2), "right": (4, 3)}
    with pytest.raises(KeyError, match="'met': the batch has the fields"):
        batch["met"]


def test_a_group_feeds_a_model_of_several_inputs_and_targets(patients):
    """The model's own structure of inputs is the sample's: nothing is renamed on the way."""
    image, age = keras.Input((4, 4, 1), name="image"), keras.Input((1,), name="age")
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), age, left, right])
    risk, kind = keras.layers.Dense(1, name="risk")(joined), keras.layers.Dense(3, "softmax", name="kind")(joined)
    inputs = {"image": image, "meta": {"age": age, "blood": {"left": left, "right": right}}}
    model = keras.Model(inputs, {"risk": risk, "kind": kind})
    model.compile("sgd", {"risk": "mse", "kind": "sparse_categorical_crossentropy"})

    feed = patients.keras(inputs=["image", "meta"])  # the targets are "y", which is a group
    history = model.fit(feed, epochs=2, verbose=0)
    predicted = model.predict(feed, verbose=0)
    by_hand = model.predict(
        {
            "image": np.repeat(np.arange(12.0), 16).reshape(12, 4, 4, 1),
            "meta": {"age": np.arange(12.0)[:, None], "blood": {"left": np.ones((12, 2)), "right": np.ones((12, 3))}},
        },
        verbose=0,
    )

    assert len(history.history["loss"]) == 2
    assert np.allclose(predicted["risk"], by_hand["risk"], rtol=1e-4)


def test_groups_are_dicts_of_tensors(patients):
    number = patients.cursor
    x, y = next(iter(patients.tf_data(inputs=["meta"], targets="y/kind")))

    assert x["blood"]["right"].shape == (4, 3)
    assert y.numpy().tolist() == patients.peek(number)["y/kind"].tolist()


def test_names_that_are_neither_field_nor_group_are_refused(patients):
    with pytest.raises(DatasetError, match="'met' is no field of this stream"):
        patients.keras(inputs="met")
    with pytest.raises(DatasetError, match="class_weight needs one target that tells the class"):
        patients.keras(targets="y", class_weight={0: 2.0})


# -- predictions --------------------------------------------------------------------------------------------


class Brightness(keras.layers.Layer):
    """Predicts what tells the picture: its brightness."""

    def call(self, pictures):
        return keras.ops.mean(keras.ops.cast(pictures, "float32"), axis=(1, 2, 3))


@pytest.fixture
def pictures(tmp_path):
    """A flat folder without classes: 0.png .. 12.png, each as bright as its name says."""
    (tmp_path / "unsorted").mkdir()
    for number in range(13):
        cv2.imwrite(str(tmp_path / f"unsorted/{number}.png"), np.full((4, 4, 3), number, np.uint8))
    return tmp_path / "unsorted"


@pytest.fixture
def model():
    """Not built yet: Keras peeks at a batch to build it."""
    return keras.Sequential([Brightness()])


def brightness(name):
    return int(name.rpartition("/")[2].removesuffix(".png")) if name else 0


@pytest.mark.parametrize("remainder", ["keep", "pad", "drop"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_each_prediction_has_the_name_of_its_file(pictures, open_stream, model, remainder, shuffled):
    dataset = Dataset.from_files(pictures)
    dataset = (dataset.shuffle(3) if shuffled else dataset).batch(5, remainder=remainder)
    feed = open_stream(dataset).keras()

    for _ in range(2):
        predictions = model.predict(feed, verbose=0)
        names = dataset.names(feed.ids)

        assert len(names) == len(predictions) == {"keep": 13, "pad": 15, "drop": 10}[remainder]
        assert [brightness(name) for name in names] == predictions.tolist()


@pytest.mark.parametrize("shuffled", [False, True])
def test_some_steps_of_predictions_have_their_names(pictures, open_stream, model, shuffled):
    dataset = Dataset.from_files(pictures)
    dataset = (dataset.shuffle(3) if shuffled else dataset).batch(4)
    feed = open_stream(dataset).keras()

    predictions = model.predict(feed, steps=2, verbose=0)

    assert [brightness(name) for name in dataset.names(feed.ids)] == predictions.tolist()


def test_training_keeps_no_ids(pictures, open_stream):
    """An epoch of a billion samples would take gigabytes."""
    dataset = Dataset.from_files([pictures / f"{n}.png" for n in range(12)], np.zeros(12)).batch(4)
    model = keras.Sequential([Brightness(), keras.layers.Reshape((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    feed = open_stream(dataset).keras()

    model.fit(feed, verbose=0)
    assert len(feed.ids) == 0
    model.evaluate(feed, verbose=0)
    assert feed.ids.tolist() == list(range(12))


# -- dtypes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "bfloat16", "float64", "complex64"])
def test_tensors_have_the_dtype_and_the_bytes_of_the_slot(open_stream, dtype):
    dataset = Dataset.from_arrays(x=np.arange(40).reshape(8, 5) % 3, y=np.arange(8)).cast("x", dtype).batch(4)
    stream = open_stream(dataset)

    for batch, (x, _) in zip(stream, open_stream(dataset).tf_data(), strict=True):
        assert x.dtype == tf.dtypes.as_dtype(dtype)
        assert batch["x"].dtype == x.numpy().dtype == np.dtype(dtype)
        assert batch["x"].tobytes() == x.numpy().tobytes() == dataset.compute(batch.n)["x"].tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_keras_trains_on_half_precision(open_stream, dtype):
    dataset = Dataset.from_arrays(x=np.random.default_rng(0).random((32, 4)), y=np.ones((32, 1), np.float32))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    history = model.fit(open_stream(dataset.cast("x", dtype).batch(8)).keras(), epochs=2, verbose=0)

    assert history.history["loss"][1] < history.history["loss"][0]
