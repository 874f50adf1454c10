"""What a training that goes on from its backups is trained on, and what becomes of backups that are no good.

Trainings are broken off by an exception here, which is quick; tests/faults kills them. The ids of the samples are an
input, and are noted where the model steps.
"""

import contextlib
import logging
import zipfile

import numpy as np
import pytest

import loader_client
from loader_client import BackupError, DatasetError
from loader_client.passes import Passes
from loader_service import Dataset
from tests.limits import largest_file

keras = pytest.importorskip("keras")
_Loop = pytest.importorskip("loader_client.keras_adapter")._Loop

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
EPOCH = 5  # batches


@pytest.fixture
def loader():
    with loader_client.connect(workers=0) as loader:
        yield loader


@pytest.fixture
def ordered():
    """Eighteen samples, each of which tells its id."""
    ids = np.arange(18)
    return Dataset.from_arrays(x=np.stack([ids, ids % 5], 1).astype(np.float32), y=(ids % 3).astype(np.float32))


@pytest.fixture
def dataset(ordered):
    return ordered.shuffle(seed=3).batch(4)


def ids(dataset, numbers):
    return [dataset.compute(n)["x"][:, 0].astype(int).tolist() for n in numbers]


class Model(keras.Model):
    """Notes the ids of the samples of each step; drops out at random, as its own seed says."""

    def __init__(self, use_bias=True):
        super().__init__()
        self.scale = keras.layers.Rescaling(1 / 18)
        self.dropout = keras.layers.Dropout(0.5, seed=1)
        self.dense = keras.layers.Dense(
            1, use_bias=use_bias, kernel_initializer=keras.initializers.GlorotUniform(seed=2)
        )
        self.seen = []

    def call(self, x, training=False):
        return self.dense(self.dropout(self.scale(x), training=training))

    def train_step(self, *state_and_data):
        x, *_ = state_and_data[-1]
        self.seen.append(keras.ops.convert_to_numpy(x)[:, 0].astype(int).tolist())
        return super().train_step(*state_and_data)


def new_model(optimizer=keras.optimizers.SGD, steps_per_execution=1, **options):
    model, optimizer = Model(**options), optimizer(0.01, momentum=0.9)
    model.compile(optimizer, "mse", run_eagerly=True, jit_compile=False, steps_per_execution=steps_per_execution)
    return model


class BreakOff(Exception):
    """What breaks a training off."""


class After(keras.callbacks.Callback):
    """Breaks a training off after so many batches of it, or in its next validation."""

    def __init__(self, batches, validating=False):
        super().__init__()
        self.left, self.validating = batches, validating

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left <= 0 and not self.validating:
            raise BreakOff

    def on_test_begin(self, logs=None):
        if self.left <= 0:
            raise BreakOff


class Training:
    """A training, and all that it needs to be begun again, as by a script that is run again."""

    def __init__(self, loader, dataset, path, every, *, keras=None, model=None, **fit):
        self.loader, self.dataset, self.path, self.every = loader, dataset, path, every
        self.keras_options, self.model_options, self.fit_options = keras or {}, model or {}, {"epochs": 3, **fit}
        self.counted = []  # ids of each step that the model has in it

    def run(self, *callbacks, **options):
        """Run the script once; return the model, or None if it was broken off."""
        stream, model = self.loader.stream(self.dataset), new_model(**self.model_options)
        backup = stream.backup_callback(self.path, self.every)
        begun = None

        class Begin(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                nonlocal begun
                if begun is None:
                    begun = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

        fit = {**self.fit_options, **options}
        if "validation_data" in fit:
            fit["validation_data"] = self.loader.stream(fit["validation_data"]).keras()
        try:
            model.fit(stream.keras(**self.keras_options), callbacks=[Begin(), *callbacks, backup], verbose=0, **fit)
            ended = True
        except BreakOff:
            ended = False
        if begun is not None:
            self.counted[begun:] = model.seen
        return model if ended else None

    def disturbed(self, *callbacks):
        """Run the script until it ends, broken off by one callback after the other; return the model."""
        for callback in callbacks:
            self.run(callback)
        return self.run()


def weights(model):
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])


SHAPES = {
    "epochs": {},
    "steps": {"keras": {"steps": 3}},
    "more steps than an epoch has": {"keras": {"steps": 7}},
    "steps_per_epoch": {"steps_per_epoch": 3},
    "steps_per_epoch of more than an epoch has": {"steps_per_epoch": 7},
    "not shuffled": {"order": "ordered"},
    "not shuffled, steps_per_epoch": {"order": "ordered", "steps_per_epoch": 7},
}


@pytest.fixture
def shape(request, loader, dataset, ordered, tmp_path):
    """Return a function that declares a training of the shape which a test asks for."""

    def declare(folder, every, **more):
        options = {**SHAPES[request.param], **more}
        chosen = ordered if options.pop("order", None) == "ordered" else ordered.shuffle(seed=3)
        return Training(loader, chosen.batch(4), tmp_path / folder, every, **options)

    return declare


@pytest.mark.parametrize("shape", SHAPES, indirect=True)
def test_a_training_that_is_broken_off_trains_what_an_undisturbed_one_does(shape, ordered):
    """Also twice in one epoch, and in validation; weights, optimizer and dropout are the same."""
    options = {"validation_data": ordered.batch(6), "epochs": 2}
    undisturbed, disturbed = shape("undisturbed", "epoch", **options), shape("disturbed", 1, **options)
    expected = undisturbed.run()

    # The backup of a batch is written when the next one begins.
    model = disturbed.disturbed(After(2), After(2), After(1, validating=True), After(3))

    assert disturbed.counted == undisturbed.counted == expected.seen
    assert weights(model) == pytest.approx(weights(expected), abs=1e-6)


@pytest.mark.parametrize("shape", ["epochs"], indirect=True)
@pytest.mark.parametrize("every", ["epoch", 2])
def test_what_was_trained_after_the_last_backup_is_trained_again(shape, every):
    undisturbed, disturbed = shape("undisturbed", "epoch"), shape("disturbed", every)
    expected = undisturbed.run()

    model = disturbed.disturbed(After(4), After(8))

    assert disturbed.counted == undisturbed.counted
    assert weights(model) == pytest.approx(weights(expected), abs=1e-6)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch has none")
@pytest.mark.parametrize("shape", ["epochs", "steps_per_epoch"], indirect=True)
def test_several_steps_in_one_execution(shape):
    options = {"model": {"steps_per_execution": 2}, "epochs": 2}
    undisturbed, disturbed = shape("undisturbed", "epoch", **options), shape("disturbed", 2, **options)
    expected = undisturbed.run()

    model = disturbed.disturbed(After(2), After(2), After(3))

    assert disturbed.counted == undisturbed.counted
    assert weights(model) == pytest.approx(weights(expected), abs=1e-6)


def done_in(folder):
    with np.load(max(folder.iterdir())) as saved:
        return int(saved["optimizer/0"])


def test_one_adapter_for_training_and_validation(loader, dataset, tmp_path):
    """One stream, one cursor: the passes take turns, also after a resume."""
    seen = {}
    for name, breaks in (("undisturbed", []), ("disturbed", [3, 4, 1])):
        counted = seen[name] = []
        for after in [*breaks, 10**6]:
            stream, model = loader.stream(dataset), new_model()
            data, callbacks = stream.keras(), [After(after), stream.backup_callback(tmp_path / name, 2)]
            if counted:
                del counted[done_in(tmp_path / name) :]
            with contextlib.suppress(BreakOff):
                model.fit(data, validation_data=data, epochs=3, callbacks=callbacks, verbose=0)
            counted += model.seen

    assert seen["disturbed"] == seen["undisturbed"]
    assert seen["undisturbed"] == ids(dataset, [*range(5), *range(10, 15), *range(20, 25)])


def test_the_first_pass_is_shorter_and_keras_does_not_warn_that_data_ran_out(loader, dataset, tmp_path):
    """Warnings are errors in these tests."""
    training = Training(loader, dataset, tmp_path, 1, steps_per_epoch=4, epochs=2)
    training.run(After(3))

    model = training.run()

    assert len(model.seen) == 2 + 4


def test_with_steps_per_epoch_keras_keeps_its_iterator_also_after_a_shorter_pass(loader, dataset):
    """A new one would begin to draw, where devices are fed ahead, before it is known what the next pass is."""
    stream = loader.stream(dataset)
    for endless in (True, False):
        stream.move(1, done=1)
        loop = _Loop(stream, Passes(stream._supply.info, steps=4), endless=endless)
        loop.begin()

        assert [loop.ends_at(seen) for seen in range(4)] == [False, False, False, not endless]


# -- the end ---------------------------------------------------------------------------------------------------


def test_a_script_that_is_run_again_after_its_end_trains_nothing_more_and_says_so(loader, dataset, tmp_path, caplog):
    training = Training(loader, dataset, tmp_path, "epoch", epochs=2)
    expected = training.run()

    model = training.run()

    assert model.seen == []
    assert np.array_equal(weights(model), weights(expected))
    (told,) = [
        record for record in caplog.records if record.name == "loader_client" and record.levelno >= logging.WARNING
    ]
    assert "Ask fit for more epochs than 2 to go on; delete" in told.getMessage()
    assert str(tmp_path) in told.getMessage()


def test_with_more_epochs_a_training_that_has_ended_goes_on(loader, dataset, tmp_path):
    longer = Training(loader, dataset, tmp_path / "longer", "epoch")
    expected = longer.run()
    training = Training(loader, dataset, tmp_path / "training", "epoch", epochs=2)
    training.run()

    model = training.run(epochs=3)

    assert training.counted == longer.counted
    assert weights(model) == pytest.approx(weights(expected), abs=1e-6)


def test_a_training_that_was_stopped_early_has_ended(loader, dataset, tmp_path):
    """With the weights that EarlyStopping restores, since our callback is the last one."""

    def stopping():
        return keras.callbacks.EarlyStopping(monitor="loss", min_delta=10**6, patience=1, restore_best_weights=True)

    training = Training(loader, dataset, tmp_path, "epoch", epochs=4)
    expected = training.run(stopping())
    assert len(expected.seen) == 2 * EPOCH

    again = training.run(stopping())

    assert again.seen == []
    assert np.array_equal(weights(again), weights(expected))
    assert len(training.run(epochs=5).seen) == 3 * EPOCH


def test_a_pass_stopped_in_its_middle_is_followed_by_the_next_epoch(loader, dataset, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    training = Training(loader, dataset, tmp_path, 1, epochs=1)
    training.run(Stop())
    training.run(epochs=2)

    assert training.counted == ids(dataset, [0, 1, *range(5, 10)])


def test_another_fit_of_the_same_model_begins_with_epoch_0(loader, dataset, tmp_path):
    training = Training(loader, dataset, tmp_path, 1, epochs=2)
    training.run(After(8))
    model = training.run()
    rest = len(model.seen)

    model.fit(loader.stream(dataset).keras(), epochs=1, verbose=0)

    assert len(model.seen) == rest + EPOCH


# -- which backup ----------------------------------------------------------------------------------------------


def backups_in(folder):
    return sorted(backup.name for backup in folder.iterdir())


def test_the_last_two_are_kept(loader, dataset, tmp_path):
    Training(loader, dataset, tmp_path, 2).run()

    assert len(backups_in(tmp_path)) == 2


def test_what_killed_writers_have_left_is_removed_and_other_files_are_not(loader, dataset, tmp_path):
    (tmp_path / "backup-000007.npz.partial").touch()
    (tmp_path / "notes.txt").touch()
    training = Training(loader, dataset, tmp_path, "epoch", epochs=1)

    assert len(training.run().seen) == EPOCH
    assert backups_in(tmp_path) == ["backup-000000.npz", "backup-000001.npz", "notes.txt"]


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def change(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def of_another_version(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("progress.json", '{"version": 9}')


DAMAGES = {
    "cut": cut,
    "changed": change,
    "empty": lambda file: file.write_bytes(b""),
    "cut json": lambda file: file.write_text('{"version": 1, "str'),
    "another version": of_another_version,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_passed_over_for_the_one_before(loader, dataset, tmp_path, damage):
    training = Training(loader, dataset, tmp_path, 2)
    training.run(After(8))
    older, newer = sorted(tmp_path.iterdir())
    DAMAGES[damage](newer)

    with pytest.warns(UserWarning, match=rf"{newer.name}' is damaged, and passed over: "):
        training.run(After(4))

    assert training.counted == ids(dataset, range(8))
    assert backups_in(tmp_path) == [older.name, "backup-000003.npz"]


def test_where_none_is_whole_fit_refuses_in_a_sentence(loader, dataset, tmp_path):
    training = Training(loader, dataset, tmp_path, 2)
    training.run(After(8))
    for backup in tmp_path.iterdir():
        cut(backup)

    with pytest.warns(UserWarning, match="damaged"), pytest.raises(BackupError, match=r"no backup in .* is whole"):
        training.run()


def restored(loader, dataset, backup):
    """Return a model whose weights somebody has restored, and a stream."""
    model, stream = new_model(), loader.stream(dataset)
    model(np.zeros((1, 2), np.float32))
    model.optimizer.build(model.trainable_variables)
    if backup is not None:
        with np.load(backup) as saved:
            for number, variable in enumerate(model.variables):
                variable.assign(saved[f"model/{number}"])
            model.optimizer.iterations.assign(saved["optimizer/0"])
    return model, stream


@pytest.mark.parametrize("which", [0, 1])
def test_a_model_whose_weights_somebody_restored_goes_on_from_that_backup(loader, dataset, tmp_path, which):
    training = Training(loader, dataset, tmp_path, 2)
    training.run(After(8))
    backup = sorted(tmp_path.iterdir())[which]
    model, stream = restored(loader, dataset, backup)

    model.fit(stream.keras(), epochs=3, callbacks=[stream.backup_callback(tmp_path, 2)], verbose=0)

    done = (4, 6)[which]
    assert model.seen == training.counted[done:8] + model.seen[8 - done :]
    assert len(model.seen) == 15 - done


def test_what_is_newer_than_the_backup_that_somebody_restored_is_not_gone_on_from(loader, dataset, tmp_path):
    Training(loader, dataset, tmp_path, 2).run(After(8))
    older, _ = sorted(tmp_path.iterdir())
    model, stream = restored(loader, dataset, older)

    with pytest.raises(BreakOff):
        model.fit(stream.keras(), epochs=3, callbacks=[After(3), stream.backup_callback(tmp_path, 2)], verbose=0)

    assert backups_in(tmp_path) == [older.name, "backup-000003.npz"]


def test_a_model_that_fits_no_backup_is_refused_with_what_there_is(loader, dataset, tmp_path):
    Training(loader, dataset, tmp_path, 2).run(After(8))
    model, stream = restored(loader, dataset, None)
    model.optimizer.iterations.assign(5)

    with pytest.raises(BackupError, match=r"has made 5 steps, the backups in .* are of 6 \(backup-000002.npz\) and 4"):
        model.fit(stream.keras(), epochs=3, callbacks=[stream.backup_callback(tmp_path)], verbose=0)


def test_a_trained_model_begins_a_training_of_its_own_in_an_empty_folder(loader, dataset, tmp_path):
    model, stream = restored(loader, dataset, None)
    model.optimizer.iterations.assign(5)

    model.fit(stream.keras(), epochs=1, callbacks=[stream.backup_callback(tmp_path)], verbose=0)

    assert len(model.seen) == EPOCH


@pytest.mark.parametrize("other", [{"use_bias": False}, {"optimizer": keras.optimizers.RMSprop}])
def test_a_backup_of_another_model_is_refused_in_a_sentence(loader, dataset, tmp_path, other):
    training = Training(loader, dataset, tmp_path, "epoch")
    training.run(After(8))
    training.model_options = other

    with pytest.raises(BackupError, match="is whole, and does not fit the model: "):
        training.run()


# -- which dataset ---------------------------------------------------------------------------------------------


def test_a_changed_dataset_is_refused_with_what_has_changed_unless_told_otherwise(loader, dataset, tmp_path):
    training = Training(loader, dataset, tmp_path, 2)
    training.run(After(8))
    other = dataset.shuffle(seed=8)
    training.dataset = other
    with pytest.raises(DatasetError, match=r"backup .*the order has changed: seed 3, now seed 8.*strict=False"):
        training.run()

    model, stream = new_model(), loader.stream(other)
    callbacks = [stream.backup_callback(tmp_path, 2, strict=False)]
    model.fit(stream.keras(), epochs=3, callbacks=callbacks, verbose=0)

    assert model.seen == ids(other, range(6, 15))


def test_one_of_several_trainers_saves_and_all_restore(loader, dataset, tmp_path):
    def trainer(rank):
        stream = loader.stream(dataset.batch(4), shard=(rank, 2))
        return new_model(), stream, stream.backup_callback(tmp_path, 2, save=rank == 0)

    for rank in (1, 0):
        model, stream, backup = trainer(rank)
        with pytest.raises(BreakOff):
            model.fit(stream.keras(), epochs=2, callbacks=[After(4), backup], verbose=0)
        assert bool(backups_in(tmp_path)) == (rank == 0)

    for rank in (1, 0):
        model, stream, backup = trainer(rank)
        model.fit(stream.keras(), epochs=2, callbacks=[backup], verbose=0)
        assert model.seen[0] == ids(dataset, [2])[0][2 * rank : 2 * rank + 2]
        assert len(model.seen) == 2 * EPOCH - 2


# -- a disk that fails -----------------------------------------------------------------------------------------


def test_a_disk_that_is_full_costs_the_backup_and_not_the_training(loader, dataset, tmp_path, caplog):
    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                full.enter_context(largest_file(1000))
            if epoch == 2:
                self.kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
                full.close()

    fill = Fill()
    training = Training(loader, dataset, tmp_path, "epoch", epochs=4)
    said = pytest.warns(UserWarning, match=r"no backup of batch 10 was written to .* Training goes on")
    with said as warned, contextlib.ExitStack() as full:
        training.run(After(3 * EPOCH - 1), fill)

    assert len([one for one in warned if "no backup" in str(one.message)]) == 1
    assert "no backup of batch 10" in caplog.text
    assert [file.name for file in fill.kept] == ["backup-000000.npz"]
    assert all(file.read_bytes() == content for file, content in fill.kept.items())
    assert backups_in(tmp_path) == ["backup-000000.npz"]
    model = training.run()
    assert len(model.seen) == 3 * EPOCH


def test_a_folder_that_cannot_be_made_is_said_at_the_start(loader, dataset, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(BackupError, match="backups cannot be written to"):
        Training(loader, dataset, tmp_path / "file", 2).run()


# -- arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "batch", None])
def test_what_every_may_be_is_told(loader, dataset, tmp_path, every):
    with pytest.raises(ValueError, match=r'expected a number of batches, or "epoch"'):
        loader.stream(dataset).backup_callback(tmp_path, every)


def test_a_fit_that_reads_something_else_is_told(loader, dataset, tmp_path):
    model, stream = new_model(), loader.stream(dataset)

    with pytest.raises(BackupError, match=r"fit\(stream.keras\(\)\) of the same stream"):
        model.fit(loader.stream(dataset).keras(), callbacks=[stream.backup_callback(tmp_path)], epochs=1, verbose=0)


def test_a_sequential_model_without_input_is_built_before_it_is_restored(loader, dataset, tmp_path):
    def run(**options):
        model, stream = keras.Sequential([keras.layers.Dense(1)]), loader.stream(dataset)
        model.compile("adam", "mse")
        model.fit(stream.keras(), callbacks=[stream.backup_callback(tmp_path)], verbose=0, **options)
        return model

    first = run(epochs=1)
    assert np.array_equal(weights(run(epochs=1)), weights(first))
