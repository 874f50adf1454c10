import random

import numpy as np
import pytest

from loader_service.dataset.dataset import Dataset
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.layout import IDS

TUTORIAL = '''
import numpy as np
import keras


class DataGenerator(keras.utils.PyDataset):
    """Volumes from single files, as the well-known tutorial reads them."""

    def __init__(self, list_IDs, labels, batch_size=4, dim=(3, 3, 3), n_channels=1, n_classes=5, shuffle=True):
        super().__init__()
        self.dim = dim
        self.batch_size = batch_size
        self.labels = labels
        self.list_IDs = list_IDs
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.shuffle = shuffle
        self.on_epoch_end()

    def __len__(self):
        return int(np.floor(len(self.list_IDs) / self.batch_size))

    def __getitem__(self, index):
        indexes = self.indexes[index * self.batch_size : (index + 1) * self.batch_size]
        return self.__data_generation([self.list_IDs[k] for k in indexes])

    def on_epoch_end(self):
        self.indexes = np.arange(len(self.list_IDs))
        if self.shuffle:
            np.random.shuffle(self.indexes)

    def __data_generation(self, list_IDs_temp):
        X = np.empty((self.batch_size, *self.dim, self.n_channels))
        y = np.empty((self.batch_size), dtype=int)
        for i, ID in enumerate(list_IDs_temp):
            X[i,] = np.load(FOLDER + "/" + ID + ".npy")
            y[i] = self.labels[ID]
        return X, keras.utils.to_categorical(y, num_classes=self.n_classes)


def make_training():
    return DataGenerator([f"id-{number}" for number in range(20)], {f"id-{number}": number % 5 for number in range(20)})
'''

PURE = """
import random
import numpy as np


class Batches:
    def __init__(self, length=10):
        self.length = length
        self.rng = np.random.default_rng()

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        rows = 2 + i % 3
        noise = [random.random(), np.random.random(), self.rng.random()]
        x = {"left": np.full((rows, 2), i, np.float32), "right": np.full((rows, 1 + i % 2), i, np.int16)}
        return x, [np.asarray([noise] * rows), np.arange(rows, dtype=np.uint8)], np.ones(rows)
"""


@pytest.fixture
def tutorial(tmp_path, user_module):
    """The tutorial's generator over twenty files, each full of its number."""
    for number in range(20):
        np.save(tmp_path / f"id-{number}.npy", np.full((3, 3, 3, 1), number))
    return user_module(TUTORIAL.replace("FOLDER", repr(str(tmp_path))))


def epoch_of(dataset, epoch):
    """Return all samples of an epoch, in order, after a look at whether each has its own label."""
    samples = []
    for number in range(dataset.batches_per_epoch):
        batch = dataset.compute(epoch * dataset.batches_per_epoch + number)
        assert (batch["x"].shape, batch["x"].dtype) == ((4, 3, 3, 3, 1), np.float64)
        assert (batch["y"].shape, batch["y"].dtype) == ((4, 5), np.float64)
        ids = batch["x"][:, 0, 0, 0, 0].astype(int)
        assert (batch["x"] == ids[:, None, None, None, None]).all()
        assert (batch["y"].argmax(-1) == ids % 5).all()
        samples += ids.tolist()
    return samples


def test_the_tutorial_s_generator_gives_each_sample_once_an_epoch_in_an_order_that_the_seed_sets(tutorial):
    dataset = Dataset.from_keras(f"{tutorial}:make_training", seed=7)
    epochs = [epoch_of(dataset, epoch) for epoch in range(3)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again, other = (Dataset.from_keras(f"{tutorial}:make_training", seed=seed) for seed in (7, 8))
    assert [epoch_of(again, epoch) for epoch in range(3)] == epochs
    assert epoch_of(other, 0) != epochs[0]


def test_an_object_is_the_same_dataset_however_it_was_shuffled_when_it_was_made(tutorial):
    """Its constructor shuffles with whatever state NumPy's generator is in: a resumed script makes another object."""
    module = __import__(tutorial)
    np.random.seed(1)
    one = Dataset.from_keras(module.make_training(), seed=7)
    np.random.seed(2)
    other = Dataset.from_keras(module.make_training(), seed=7)

    assert one.key == other.key
    assert epoch_of(one, 0) == epoch_of(other, 0)
    assert one.key != Dataset.from_keras(module.make_training(), seed=8).key


def test_the_object_of_the_caller_and_its_generators_stay_as_they_are(tutorial):
    made = __import__(tutorial).make_training()
    before = made.indexes.copy()
    random.seed(3)
    np.random.seed(3)
    wanted = (random.random(), np.random.random())
    random.seed(3)
    np.random.seed(3)

    dataset = Dataset.from_keras(made)
    dataset.compute(7)

    assert (random.random(), np.random.random()) == wanted
    assert (made.indexes == before).all()


def test_batches_come_as_fields_of_whatever_shape_they_have(user_module):
    dataset = Dataset.from_keras(f"{user_module(PURE)}:Batches")

    assert list(dataset.spec) == ["x/left", "x/right", "y/0", "y/1", "weight"]
    assert [field.shape for field in dataset.spec.values()] == [(2,), (None,), (3,), (), ()]
    for n in (0, 4, 11):
        batch = dataset.compute(n)
        rows = 2 + n % 10 % 3
        assert {name: array.shape for name, array in batch.items()} == {
            "x/left": (rows, 2),
            "x/right": (rows, 1 + n % 10 % 2),
            "y/0": (rows, 3),
            "y/1": (rows,),
            "weight": (rows,),
        }
        assert [array.dtype.name for array in batch.values()] == ["float32", "int16", "float64", "uint8", "float64"]


def test_a_batch_is_a_function_of_seed_and_number_alone(user_module):
    name = f"{user_module(PURE)}:Batches"
    wanted = [Dataset.from_keras(name, seed=7).compute(n) for n in range(25)]
    other, dataset = Dataset.from_keras(name, seed=8), Dataset.from_keras(name, seed=7)

    assert not dataset.plan.doubts()
    for n in [24, 3, 11, 0, 12, 1]:
        assert {field: array.tobytes() for field, array in dataset.compute(n).items()} == {
            field: array.tobytes() for field, array in wanted[n].items()
        }
        assert dataset.compute(n)["y/0"].tobytes() != other.compute(n)["y/0"].tobytes()
    assert len({batch["y/0"].tobytes() for batch in wanted}) == 25


def test_shuffle_visits_the_batches_of_each_epoch_in_another_order(user_module):
    dataset = Dataset.from_keras(f"{user_module(PURE)}:Batches").shuffle(seed=7)

    epochs = [[int(dataset.compute(n)["x/left"][0, 0]) for n in range(start, start + 10)] for start in (0, 10)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1] != list(range(10))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("return np.random.default_rng().random((2, 3))", "makes another batch each time"),
        ("return RNG.random((2, 3))", "makes another batch each time"),
        ("self.length += 1; return np.full((2, 3), self.length)", ""),
        ("return np.random.random((2, 3))", ""),
    ],
)
def test_a_sequence_that_is_not_pure_is_live_and_its_author_is_told_why(user_module, line, told):
    module = user_module(PURE.replace("rows = 2 + i % 3", line) + "\n\nRNG = np.random.default_rng()\n")

    plan = Dataset.from_keras(f"{module}:Batches").plan

    assert plan.info.live == bool(told)
    assert told in "".join(plan.doubts())
    assert len(plan.doubts()) == plan.info.live


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise KeyError('no label')", "KeyError: 'no label'"),
        ("return None", "it is None, expected x"),
        ("return np.zeros((2, 3, 1))", r"'x' is float64 \(2, 3, 1\), and other batches have \(None, 3\)"),
        ("return np.zeros((2, 4))", r"'x' is float64 \(2, 4\), and other batches have \(None, 3\)"),
        ("return np.zeros((2, 3)), np.zeros(2)", r"it consists of \['x', 'y'\], and other batches of \['x'\]"),
        ("return np.zeros((2, 3), complex)", "'x' is complex128, and of other batches float64"),
        ("return 3", "'x' in it is 3, expected an array with one row for each sample"),
    ],
)
def test_a_batch_that_cannot_be_made_is_named_and_those_after_it_are_there(user_module, line, told):
    source = f"""
        if i == 7:
            {line}
        return np.full((2, 3), i, float)
        rows = 1"""
    module = user_module(PURE.replace("        rows = 2 + i % 3", source))
    dataset = Dataset.from_keras(f"{module}:Batches")

    with pytest.raises((SampleError, SpecMismatch), match=rf"sample 7 \({module}:Batches\[7\]\): {told}"):
        dataset.compute(7)

    assert dataset.compute(8)["x"][0, 0] == 8


def test_a_batch_that_cannot_be_made_may_be_replaced_by_another(user_module, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    module = user_module(PURE.replace("rows = 2 + i % 3", "rows = 2 + i % 3 if i != 7 else 1 / 0"))
    dataset = Dataset.from_keras(f"{module}:Batches").on_error("replace", most=0.2)

    assert dataset.compute(7)["x/left"][0, 0] != 7
    assert [bad.id for bad in dataset.plan.ledger] == [7]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return self.length", "return 0", "is empty: its length is 0, expected the batches of an epoch, at least 1"),
        ("def __getitem__", "def get", "Batches is Batches, which has no __getitem__"),
        ("rows = 2 + i % 3", "raise OSError('no disk')", r"sample 0 \(.*:Batches\[0\]\): OSError: no disk"),
        ("rows = 2 + i % 3", "return ['a', 'b']", "'x' in it is 'a'"),
        ("rows = 2 + i % 3", "return np.asarray(['a', 'b'])", "'x' in it: dtype '<U1' cannot be shared"),
    ],
)
def test_what_is_no_sequence_is_refused_when_it_is_opened(user_module, old, new, told):
    module = user_module(PURE.replace(old, new))

    with pytest.raises(DatasetError, match=told):
        Dataset.from_keras(f"{module}:Batches").compute(0)


def test_epochs_of_several_lengths_are_refused(user_module):
    module = user_module(PURE + "\n    def on_epoch_end(self):\n        self.length -= 1\n")

    with pytest.raises(DatasetError, match="has 8 batches in epoch 1, and had 9 in the first one"):
        Dataset.from_keras(f"{module}:Batches").compute(9)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda dataset: dataset.batch(4), r"keras: its items are whole batches already: leave .batch\(4\) out"),
        (lambda dataset: dataset.rescale(2, field="x/left"), r"keras: .* and .rescale\(\) acts on samples"),
    ],
)
def test_steps_that_act_on_samples_are_refused(user_module, step, told):
    with pytest.raises(DatasetError, match=told):
        step(Dataset.from_keras(f"{user_module(PURE)}:Batches")).compute(0)


def test_one_with_open_files_is_made_by_a_function(user_module, tmp_path):
    (tmp_path / "numbers").write_bytes(bytes(range(10)))
    opened = f"self.file = open({str(tmp_path / 'numbers')!r}, 'rb'); self.length = length"
    source = PURE.replace("self.length = length", opened).replace("rows = 2 + i % 3", "self.file.seek(i); rows = 2")
    source += "\n    def __del__(self):\n        self.file.close()\n"
    module = user_module(source.replace("[random.random()", "[self.file.read(1)[0]"))
    dataset = Dataset.from_keras(f"{module}:Batches")

    assert [dataset.compute(n)["y/0"][0, 0] for n in range(12)] == [*range(10), 0, 1]
    with pytest.raises(DatasetError, match=r"because of its attribute 'file'.*from_keras\(\"my_classes:make_tr"):
        Dataset.from_keras(__import__(module).Batches())


def test_an_object_that_stands_in_a_module_is_copied(user_module):
    module = user_module(PURE + "\n\nbatches = Batches(5)\n")

    assert Dataset.from_keras(f"{module}:batches").batches_per_epoch == 5


def test_the_plain_form_of_one_that_is_named_makes_the_same_batches(user_module):
    dataset = Dataset.from_keras(f"{user_module(PURE)}:Batches", seed=3)

    again = Dataset.from_dict(dataset.to_dict())

    assert again.key == dataset.key
    assert again.compute(3)["y/0"].tobytes() == dataset.compute(3)["y/0"].tobytes()
    assert IDS not in again.spec
