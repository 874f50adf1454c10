"""Existing Keras Sequences, unchanged, in the workers."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import loader_client
from loader_client import DatasetError, DatasetWarning, SampleError, SpecMismatch
from loader_service import Dataset
from tests.end_to_end.conftest import PATIENCE
from tests.faults.watch import shared_memory, status_of, workers_of

SCRIPT = Path(__file__).with_name("tutorial.py")


class Batches:
    """Like a PyDataset, without Keras: ten batches that differ in rows, and tell who made them."""

    def __init__(self, length=10):
        self.length = length
        self.order = np.arange(length)

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        rows = 4 - i % 3
        x = {"number": np.full((rows, 1), self.order[i]), "noise": np.random.random((rows, 2)).astype(np.float32)}
        return x, [np.ones(rows), np.full((rows, 3), os.getpid())], np.full(rows, 0.5)

    def on_epoch_end(self):
        np.random.shuffle(self.order)


def numbers_of(stream):
    """Return the numbers of an epoch's batches, in order."""
    return [int(batch["x/number"][0, 0]) for batch in stream]


class Same(Batches):
    """As it should be: nothing in a batch tells who made it."""

    def __getitem__(self, i):
        x, (ones, _), weights = super().__getitem__(i)
        return x, [ones, x["noise"] * 2], weights


def test_an_object_runs_in_workers_as_it_is_and_its_daemon_ends_with_the_stream():
    given = Same()
    with loader_client.wrap(given, workers=2, seed=7) as stream:
        epochs = [numbers_of(stream) for _ in range(3)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert given.order.tolist() == list(range(10))
    with pytest.raises(loader_client.StreamClosed):
        next(iter(stream))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_those_that_compute_makes_for_any_number_of_workers(workers):
    wanted = Dataset.from_keras(Same(), seed=7)
    with loader_client.wrap(Same(), workers=workers, seed=7) as stream:
        for n in [*range(12), 35, 3]:
            batch, expected = stream.take(n), wanted.compute(n)
            assert list(batch) == list(expected)
            for name, array in batch.items():
                assert (array.shape, array.dtype) == (expected[name].shape, expected[name].dtype)
                assert array.tobytes() == expected[name].tobytes()
            assert batch.ids.tolist() == [n % 10]


def test_what_a_model_gets_is_what_the_object_returns():
    given = Same()
    with loader_client.wrap(given, workers=1) as stream:
        x, y, weights = next(stream.generator())

        assert (list(x), type(y), len(y)) == (["number", "noise"], list, 2)
        assert [array.dtype.name for array in (*x.values(), *y, weights)] == [
            "int64",
            "float32",
            "float64",
            "float32",
            "float64",
        ]
        assert next(stream.generator(inputs="x/noise", targets="y/0"))[0].dtype == np.float32


class Tells(Batches):
    """Tells who made a batch, but for the first one, which would be told of."""

    def __getitem__(self, i):
        time.sleep(0.01)  # as reading would take
        x, (ones, pids), weights = super().__getitem__(i)
        return x, [ones, pids * (i > 0)], weights


@pytest.mark.slow
def test_all_workers_make_batches():
    with loader_client.wrap(Tells(), workers=2) as stream:
        pids = {int(batch["y/1"][0, 0]) for _ in range(5) for batch in stream}

        assert pids - {0} == set(workers_of(stream._owned.address))


@pytest.mark.slow
def test_a_batch_that_is_another_one_in_each_worker_is_found_out_by_two_of_them():
    """It is the same each time that one process makes it: only another process can tell."""
    with pytest.warns(DatasetWarning, match="in each worker, makes another batch"):
        stream = loader_client.wrap(Batches(), workers=2)
    with stream:
        assert len({int(batch["y/1"][0, 0]) for _ in range(3) for batch in stream}) == 1


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_batches():
    """The object is made anew, by another process as it were: in whatever order it is by then."""
    with loader_client.wrap(Same(), workers=1, seed=7) as stream:
        for _ in range(13):
            stream.take(stream.cursor)
        state = json.loads(json.dumps(stream.state_dict()))
        wanted = numbers_of(stream)
    other = Same()
    np.random.default_rng(5).shuffle(other.order)
    other.order.sort()

    with loader_client.wrap(other, workers=1, seed=7) as stream:
        stream.load_state_dict(state)
        assert numbers_of(stream) == wanted
    with loader_client.wrap(Same(), workers=1, seed=8) as stream, pytest.raises(DatasetError, match="source has ch"):
        stream.load_state_dict(state)


@pytest.mark.slow
def test_the_object_is_there_again_when_the_daemon_is_killed():
    with loader_client.wrap(Same(), workers=1, seed=7) as stream:
        wanted = [stream.peek(n)["x/noise"].tobytes() for n in range(30)]
        first = stream.take(0)
        os.kill(status_of(stream._owned.address)["pid"], signal.SIGKILL)

        assert [stream.take(n)["x/noise"].tobytes() for n in range(30)] == wanted
        assert first["x/noise"].tobytes() == wanted[0]


@pytest.mark.slow
def test_a_killed_worker_costs_no_batch():
    with loader_client.wrap(Same(20), workers=2, seed=7) as stream:
        wanted = [stream.peek(n)["x/noise"].tobytes() for n in range(40)]
        got = []
        for n in range(40):
            got.append(stream.take(n)["x/noise"].tobytes())
            if n in (5, 15, 25):
                os.kill(workers_of(stream._owned.address)[0], signal.SIGKILL)

    assert got == wanted


class Broken(Same):
    def __getitem__(self, i):
        if i == 7:
            raise KeyError("no label for id-7")
        return super().__getitem__(i)


class Changing(Same):
    def __getitem__(self, i):
        x, y, weights = super().__getitem__(i)
        return None if i == 899 else ({**x, "noise": x["noise"][:, :1]} if i == 900 else x, y, weights)


def test_a_batch_that_raises_is_named_and_the_stream_goes_on_behind_it():
    with loader_client.wrap(Broken(), workers=2) as stream:
        for n in range(7):
            stream.take(n)
        told = r"sample 7 \('Broken' \(.*\)\[7\]\): KeyError: 'no label for id-7'"
        with pytest.raises(SampleError, match=told) as error:
            stream.take(7)
        assert 'raise KeyError("no label for id-7")' in "".join(error.value.__notes__)
        assert stream.take(8).n == 8


def test_a_batch_that_is_none_or_of_another_shape_is_named_with_the_difference():
    with loader_client.wrap(Changing(1000), workers=1) as stream:
        with pytest.raises(SampleError, match=r"sample 899 \(.*\): it is None, expected x, \(x, y\)"):
            stream.take(899)
        with pytest.raises(SpecMismatch, match=r"'x/noise' is float32 \(\d, 1\), and other batches have \(None, 2\)"):
            stream.take(900)
        assert stream.take(901).n == 901


class Sentences(Batches):
    """Each batch is padded to its longest sentence."""

    def __getitem__(self, i):
        return np.full((4, (5, 9, 12)[i % 3], 2), i, np.float32), np.arange(4)


def test_batches_may_differ_in_length():
    with loader_client.wrap(Sentences(), workers=2) as stream:
        for batch in stream:
            assert batch["x"].shape == (4, (5, 9, 12)[batch.n % 3], 2)
            assert (batch["x"] == batch.n).all()
        assert stream.spec["x"].shape == (None, 2)


class Grows(Batches):
    """All batches but two are as large as those that are looked at."""

    def __getitem__(self, i):
        rows = {5: 9_000, 6: 100_000}.get(i, 600 if i % 2 else 500)
        return np.full((rows, 5, 7), i, np.float64), np.arange(rows)


def test_a_batch_far_larger_than_those_looked_at_takes_memory_only_for_as_long_as_it_is_there():
    with loader_client.wrap(Grows(1_000), prefetch=8, workers=2) as stream:
        daemon = status_of(stream._owned.address)["pid"]
        at_rest = shared_memory(daemon)
        large = stream.take(5)

        assert large["x"].shape == (9_000, 5, 7)
        assert (large["x"] == 5).all()
        assert shared_memory(daemon) > at_rest + large["x"].nbytes
        with pytest.raises(
            SpecMismatch, match=r"\[6\].*: field 'x' of this batch is \(100000, 5, 7\), and there is room"
        ):
            stream.take(6)
        for n in range(7, 30):
            assert (stream.take(n)["x"] == n).all()
        assert (large["x"] == 5).all()
        del large
        for n in range(30, 150):  # until its slot, which waits at the end of the line, has been written again
            stream.take(n)
        assert shared_memory(daemon) < at_rest + 2**20


class HoldsTheGIL(Same):
    """Computes in C without letting go of the interpreter, as some libraries do."""

    def __getitem__(self, i):
        sum(range(300_000))
        return super().__getitem__(i)


def test_one_that_holds_the_interpreter_lock_does_not_hold_up_the_trainer():
    with loader_client.wrap(HoldsTheGIL(), workers=2, seed=7) as stream:
        assert sorted(numbers_of(stream)) == list(range(10))


class Impure(Same):
    def __init__(self):
        super().__init__()
        self.made = 0

    def __getitem__(self, i):
        rng = np.random.default_rng()
        return np.full((2, 1), self.order[i]), rng.random((2, 1)), np.full(2, os.getpid())

    def on_epoch_end(self):
        np.random.default_rng().shuffle(self.order)


DIES = """
import os, signal
from pathlib import Path
import numpy as np

class Dies:
    def __init__(self):
        for number in range(100):
            try:
                (Path({folder!r}) / str(number)).touch(exist_ok=False)
                break
            except FileExistsError:
                pass
        if number == {nth}:
            os.kill(os.getpid(), signal.SIGKILL)
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return np.full((2, 2), i)
"""


@pytest.mark.slow
@pytest.mark.parametrize("nth", range(4))
def test_a_worker_that_dies_while_it_opens_one_is_replaced(nth, user_module, tmp_path):
    """Whoever finds out what it looks like makes two; so does the one who says whether it makes the same."""
    (tmp_path / "opened").mkdir()
    user_module("dies", DIES.format(folder=str(tmp_path / "opened"), nth=nth))
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(Dataset.from_keras("dies:Dies"))

        assert [int(batch["x"][0, 0]) for batch in stream] == list(range(4))
        assert status_of(loader.address)["workers_lost"] == 1


def test_one_that_is_not_pure_is_read_live_by_one_worker_with_a_warning():
    """Each worker would shuffle in its own way: some samples would come twice, and others never."""
    with pytest.warns(DatasetWarning, match="so it is read live: by one worker.*To mend it, draw random numbers from"):
        stream = loader_client.wrap(Impure(), workers=3)
    with stream:
        batches = [[(int(batch["x"][0, 0]), int(batch["weight"][0])) for batch in stream] for _ in range(3)]

        assert [sorted(number for number, _ in epoch) for epoch in batches] == [list(range(10))] * 3
        assert len({pid for epoch in batches for _, pid in epoch}) == 1
        with pytest.raises(DatasetError, match="this dataset is read live, so there is no batch to go on with"):
            stream.state_dict()


def count():
    """Yield numbers, and who counts."""
    for number in range(1_000_000):
        yield np.int64(number), np.int64(os.getpid())


@pytest.mark.slow
def test_a_generator_runs_in_one_worker_and_begins_anew_when_that_is_killed():
    dataset = Dataset.from_generator("tests.end_to_end.test_wrap:count", samples=40).batch(4)
    with loader_client.connect(workers=2) as loader, loader.stream(dataset, prefetch=2) as stream:
        seen = [stream.take(n) for n in range(25)]
        assert [int(number) for batch in seen for number in batch["x"]] == list(range(100))
        (worker,) = {int(pid) for batch in seen for pid in batch["y"]}
        os.kill(worker, signal.SIGKILL)

        while (batch := stream.take(stream.cursor))["y"][0] == worker:
            assert stream.cursor < 1000
        assert batch["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_two_streams_over_a_generator_have_one_each():
    dataset = Dataset.from_generator("tests.end_to_end.test_wrap:count", samples=40).batch(4)
    with loader_client.connect(workers=2) as loader:
        for stream in [loader.stream(dataset), loader.stream(dataset)]:
            assert stream.take(0)["x"].tolist() == [0, 1, 2, 3]


def test_a_lambda_runs_in_the_workers_of_a_private_daemon_and_of_no_other(start_daemon, address):
    class Squares:
        def __len__(self):
            return 12

        def __getitem__(self, i):
            return {"x": np.float64(i * i)}

    by = np.arange(100_000)
    dataset = Dataset.from_python(Squares()).map(lambda sample: {"x": sample["x"] * by[3]}).batch(4)
    with loader_client.connect(workers=2) as loader, loader.stream(dataset) as stream:
        assert [batch["x"].tolist() for batch in stream] == [[3 * i * i for i in range(k, k + 4)] for k in (0, 4, 8)]

    start_daemon("--workers", "1")
    with loader_client.connect(address) as loader, pytest.raises(DatasetError, match="Or start a daemon of your own"):
        loader.stream(dataset)


@pytest.mark.slow
def test_one_of_a_million_ids_is_sent_once():
    """Its bytes lie in one memory, which every worker maps."""
    given = Same()
    given.ids = [f"id-{number}" for number in range(1_000_000)]
    given.table = np.arange(4_000_000)

    with loader_client.wrap(given, workers=2, seed=7) as stream:
        assert sorted(numbers_of(stream)) == list(range(10))
        tables = set()
        for pid in workers_of(stream._owned.address):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "loader-service table" in line:
                    tables.add(line.split()[4])
        assert len(tables) == 1  # one inode


def test_an_object_is_explained_to_those_who_join_a_daemon_before_anything_starts(start_daemon, address):
    daemon = start_daemon("--workers", "1")
    line = Batches.__init__.__code__.co_firstlineno - 3

    with loader_client.connect(address) as loader, pytest.raises(DatasetError) as told:
        loader.stream(Dataset.from_keras(Batches()))

    assert f"test_wrap.py, line {line})" in str(told.value)
    assert 'name it: Dataset.from_keras("my_classes:make_training")' in str(told.value)
    assert "stream opened" not in daemon.end()


def test_a_daemon_takes_objects_from_nobody_but_its_owner():
    """Whatever a client claims: a pickle is run by whoever opens it."""
    dataset = Dataset.from_keras(Batches())
    with loader_client.wrap(Same(), workers=1) as stream:
        script = (
            "import sys, pickle, loader_client, loader_client.loader as loader\n"
            "loader.carried_in = lambda plain: []\n"  # as one would who means harm
            "dataset = pickle.load(sys.stdin.buffer)\n"
            f"loader_client.connect({stream._owned.address!r}).stream(dataset)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", script], input=pickle.dumps(dataset), capture_output=True, timeout=PATIENCE
        )

    assert "has no import path, so workers cannot find it" in ran.stderr.decode()


def test_a_named_sequence_is_served_by_any_daemon(start_daemon, address):
    start_daemon("--workers", "2")
    with loader_client.connect(address) as loader, loader_client.connect(address) as other:
        dataset = Dataset.from_keras("tests.end_to_end.test_wrap:Same", seed=7)
        streams = [loader.stream(dataset), other.stream(dataset)]

        assert streams[0].key == streams[1].key
        for one, twin in zip(*streams, strict=True):
            assert one["x/noise"].tobytes() == twin["x/noise"].tobytes()


def test_a_sequence_cannot_be_cut_into_shards():
    with loader_client.connect(workers=1) as loader, pytest.raises(DatasetError, match="cannot be cut into 2 shards"):
        loader.stream(Dataset.from_keras(Same()), shard=(0, 2))


@pytest.mark.slow
def test_the_tutorials_generator_trains_as_it_is(tmp_path):
    """The script is what its readers have: the class in it, and `wrap` around the object. See tutorial.py."""
    ran = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=PATIENCE * 2)

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["first"] == told["again"]
    assert told["first"][0] != told["first"][1]
    for epoch in told["first"]:
        assert sorted(epoch) == list(range(24))
    assert told["trained"] == [6, 6, 6]
    assert told["other seed"] != told["first"]
