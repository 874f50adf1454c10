"""Batches through a real daemon: the right bytes, in the right order, whatever the reader does with them."""

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

import loader_client
from loader_client import (
    AddressError,
    ConfigError,
    DaemonStopped,
    DatasetError,
    NoDaemon,
    NotEnoughMemory,
    SampleError,
    SpecMismatch,
    StreamClosed,
)
from loader_service import Dataset
from tests.end_to_end.conftest import PATIENCE, digest, expected_digest, is_alive, run_script


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stream_is_what_compute_says_for_any_number_of_workers(augmented, workers):
    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(augmented)
        epochs = [list(stream), list(stream)]

    assert [batch.n for epoch in epochs for batch in epoch] == list(range(20))
    assert digest(epochs[0] + epochs[1]) == expected_digest(augmented, range(20))
    assert stream.key == augmented.key


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_each_sample_comes_once_an_epoch(pictures, remainder):
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).shuffle(seed=1).batch(16, remainder=remainder)

    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        ids = np.concatenate([batch.ids.copy() for batch in stream])
        sizes = [len(batch["label"]) for batch in stream]

    real = ids[ids >= 0]
    assert len(set(real.tolist())) == len(real) == (64 if remainder == "drop" else 74)
    assert sizes == {"keep": [16] * 4 + [10], "drop": [16] * 4, "pad": [16] * 5}[remainder]


def test_arrays_in_memory_travel_once_and_come_back_as_rows():
    x, y = np.arange(60_000, dtype=np.float32).reshape(1000, 60), np.arange(1000)
    dataset = Dataset.from_arrays(x=x, y=y).shuffle(seed=3).batch(100)

    with loader_client.connect(workers=2) as loader:
        for batch in loader.stream(dataset):
            assert np.array_equal(batch["x"], x[batch.ids])
            assert np.array_equal(batch["y"], batch.ids)


def test_the_tutorials_files_and_labels_come_as_x_and_one_hot_label(tmp_path):
    for number in range(20):
        np.save(tmp_path / f"id-{number}.npy", np.full((4, 4), number, np.float32))
    labels = {f"id-{number}": number % 3 for number in range(20)}
    dataset = Dataset.from_npy_files(tmp_path, list(labels), labels).one_hot("label", 3).shuffle(2).batch(6)

    with loader_client.connect(workers=2) as loader:
        batches = list(loader.stream(dataset))

    assert sorted(batch["x"][row, 0, 0] for batch in batches for row in range(len(batch.ids))) == list(range(20))
    for batch in batches:
        assert np.array_equal(batch["label"].argmax(1), batch["x"][:, 0, 0].astype(int) % 3)


def test_a_state_goes_on_where_it_was_taken(augmented):
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented)
        for _ in range(7):
            next(iter(stream))
        state = stream.state_dict()
        rest = digest(list(stream))

    with loader_client.connect(workers=1) as loader:
        resumed = loader.stream(augmented)
        resumed.load_state_dict(state)

        assert (state["version"], state["key"], state["n"]) == (1, augmented.key, 7)
        assert digest(list(resumed)) == rest == expected_digest(augmented, range(7, 10))


def test_a_state_of_another_dataset_is_refused(augmented):
    with loader_client.connect(workers=0) as loader:
        state = loader.stream(augmented).state_dict()
        other = loader.stream(augmented.shuffle(seed=8))

        with pytest.raises(DatasetError, match="the order has changed: seed 7, now seed 8"):
            other.load_state_dict(state)


def test_jumping_about_gives_the_right_batches(augmented):
    """A reset voids what was asked for; what is under way must not be taken for what is asked now."""
    numbers = [0, 1, 9, 3, 3, 2, 17, 0, 1, 2, 3, 4, 30, 5]
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented, prefetch=4)
        taken = [stream.take(n) for n in numbers]
        assert digest(taken) == expected_digest(augmented, numbers)


def test_keeping_every_batch_of_an_epoch_neither_blocks_nor_changes_them(augmented):
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented, prefetch=2)
        kept = [batch for _ in range(4) for batch in stream]

        assert digest(kept) == expected_digest(augmented, range(40))
        assert stream.stats()["copied_batches"] > 30


def test_arrays_stay_as_they_are_after_the_stream_and_the_loader_are_closed(augmented):
    """A slot must not be refilled under an array that is alive, even if its stream is long gone."""
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(augmented)
        kept = next(iter(stream))
        stream.close()
        again = loader.stream(augmented)
        for _ in range(5):
            list(again)
        assert digest([kept]) == expected_digest(augmented, [0])

    assert digest([kept]) == expected_digest(augmented, [0])


def test_arrays_cannot_be_written(augmented):
    """Another trainer may be reading the same memory."""
    with loader_client.connect(workers=1) as loader:
        batch = next(iter(loader.stream(augmented)))

        with pytest.raises(ValueError, match="read-only"):
            batch["image"][0] = 0


def test_two_slots_are_enough(pictures):
    dataset = Dataset.from_image_folder(pictures).resize(200, 200).shuffle(seed=1).batch(16)
    with loader_client.connect(workers=2, memory="4 MiB") as loader:
        stream = loader.stream(dataset)
        batches = [batch["label"].sum() for _ in range(3) for batch in stream]

    assert len(batches) == 15


def test_memory_does_not_grow_over_two_thousand_batches():
    dataset = Dataset.from_arrays(x=np.zeros((512, 1024), np.float32)).shuffle(seed=1).batch(32)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]

        def private_memory():
            return sum(process.memory_full_info().uss for process in processes)

        for _ in range(20):
            for _ in stream:
                pass
        before = private_memory()
        for _ in range(130):
            for _ in stream:
                pass

        assert private_memory() - before < 8 * 2**20
        assert stream.cursor == 2400


def test_two_streams_of_one_dataset_share_what_is_made(augmented, start_daemon):
    daemon = start_daemon("--workers", "2")
    with loader_client.connect() as one, loader_client.connect(daemon.address) as other:
        streams = [one.stream(augmented), other.stream(augmented)]
        for first, second in zip(*streams, strict=True):
            assert digest([first]) == digest([second])

        (dataset,) = daemon.status()["datasets"]

    assert dataset["batches_shared"] >= 10
    assert dataset["batches_made"] <= 10 + 8  # an epoch, and what is asked for ahead of it


def test_a_stream_whose_loader_is_garbage_says_what_to_do(augmented):
    """A daemon for each stream that a notebook once showed would be the price of anything else."""
    stream = loader_client.connect(workers=1).stream(augmented)
    gc.collect()

    with pytest.raises(StreamClosed, match="with the Loader that opened it, which nobody refers to any more: keep it"):
        stream.take(0)


def test_streams_that_stand_still_keep_no_other_waiting(augmented):
    """Each of them has asked ahead, and holds what it was lent."""
    with loader_client.connect(workers=1) as loader:
        streams = [loader.stream(augmented) for _ in range(8)]
        for number, stream in enumerate(streams):
            assert digest(stream.take(n) for n in range(5 + number)) == expected_digest(augmented, range(5 + number))


def test_more_streams_than_slots_are_refused_with_what_helps(pictures):
    dataset = Dataset.from_image_folder(pictures).resize(200, 200).batch(16)
    with loader_client.connect(workers=1, memory="4 MiB") as loader:
        stream = loader.stream(dataset)
        with pytest.raises(
            NotEnoughMemory, match="1 streams read this dataset, and hold all of its 2 slots: close one"
        ):
            loader.stream(dataset)
        stream.close()
        assert loader.stream(dataset).take(0).n == 0


def test_two_streams_of_one_connection_in_turn(augmented, pictures):
    other = Dataset.from_image_folder(pictures).resize(8, 8).batch(10)
    with loader_client.connect(workers=2) as loader:
        first, second = loader.stream(augmented), loader.stream(other)
        taken = [(a, b) for a, b in zip(first, second, strict=False)]

    assert digest(a for a, _ in taken) == expected_digest(augmented, range(len(taken)))
    assert digest(b for _, b in taken) == expected_digest(other, range(len(taken)))


# -- errors ------------------------------------------------------------------------------------------------------


def test_an_exception_in_a_users_function_arrives_with_sample_file_and_traceback(pictures, user_module):
    user_module(
        "bad",
        "def fail(sample):\n    if sample['label'] == 1:\n        raise KeyError('no such thing')\n    return sample\n",
    )
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).map("bad:fail").batch(10)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        good = [next(iter(stream)).n for _ in range(3)]

        with pytest.raises(SampleError, match=r"sample 3\d \(.*/dog/00\d.png\): KeyError: 'no such thing'") as caught:
            next(iter(stream))

        assert good == [0, 1, 2]
        assert "in fail" in caught.value.__notes__[0]


def test_a_stream_goes_on_behind_a_batch_that_cannot_be_made(pictures, user_module):
    user_module("bad", "def fail(sample):\n    assert sample['label'] == 0\n    return sample\n")
    dataset = Dataset.from_image_folder(pictures).resize(8, 8).map("bad:fail").batch(37)
    with loader_client.connect(workers=2) as loader:
        stream = loader.stream(dataset)
        assert next(iter(stream)).n == 0
        for _ in range(2):
            with pytest.raises(SampleError):
                stream.take(1)

        assert stream.take(2).n == 2


def test_a_truncated_picture_is_named(pictures):
    path = pictures / "dog" / "001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(SampleError, match=r"dog/001.jpg\): the JPEG is damaged"):
            list(loader.stream(Dataset.from_image_folder(pictures).resize(8, 8).batch(74)))


def test_a_picture_of_another_size_is_named(pictures):
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(SpecMismatch, match=r"cat/001.jpg\): field 'image' is uint8 \(25, 30, 3\), declared"):
            list(loader.stream(Dataset.from_image_folder(pictures).batch(8)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_folder_is_an_error_when_the_stream_is_opened(tmp_path, workers):
    with loader_client.connect(workers=workers) as loader:
        with pytest.raises(DatasetError, match=r"'.*/nowhere' does not exist"):
            loader.stream(Dataset.from_image_folder(tmp_path / "nowhere").batch(8))


def test_a_module_that_fails_to_import_is_named_with_its_own_error(pictures, user_module):
    user_module("broken", "import no_such_library\n")
    with loader_client.connect(workers=1) as loader:
        with pytest.raises(DatasetError, match=r"'broken' cannot be imported: .*no_such_library"):
            loader.stream(Dataset.from_image_folder(pictures).resize(8, 8).map("broken:f").batch(8))


def test_too_little_memory_says_how_much_is_needed_and_which_setting_mends_it(pictures):
    dataset = Dataset.from_image_folder(pictures).resize(1000, 1000).batch(8)
    with loader_client.connect(workers=1, memory="16 MiB") as loader:
        with pytest.raises(NotEnoughMemory, match=r"two slots of 22.9 MiB need 45.8 MiB .* 16.0 MiB .*--memory"):
            loader.stream(dataset)


def test_a_private_daemons_memory_that_is_no_size_says_what_is_expected():
    with pytest.raises(ConfigError, match="memory '1 apple': expected a size of at least 1 MiB"):
        loader_client.connect(workers=1, memory="1 apple")


def test_nobody_at_an_address_is_an_error_with_the_command_that_helps(address):
    with pytest.raises(NoDaemon, match=f"no daemon answers at {address}. Start one with `loader-service start"):
        loader_client.connect(address)


def test_an_address_that_is_none_says_what_one_looks_like():
    with pytest.raises(AddressError, match="expected ipc://FOLDER"):
        loader_client.connect("localhost:5555")


def test_a_stopped_daemon_ends_its_streams_with_a_sentence(augmented, start_daemon):
    daemon = start_daemon("--workers", "1")
    with loader_client.connect() as loader:
        stream = loader.stream(augmented, prefetch=1)
        next(iter(stream))
        daemon.command("stop")

        with pytest.raises(DaemonStopped, match="was stopped: its streams have ended"):
            for _ in range(20):
                next(iter(stream))


def test_a_closed_stream_says_so(augmented):
    with loader_client.connect(workers=0) as loader:
        stream = loader.stream(augmented)
        stream.close()
        with pytest.raises(StreamClosed, match="open another"):
            next(iter(stream))

    with pytest.raises(StreamClosed, match="connect again"):
        loader.stream(augmented)


def test_a_field_that_does_not_exist_is_told_with_those_that_do(augmented):
    with loader_client.connect(workers=0) as loader:
        stream = loader.stream(augmented)
        with pytest.raises(DatasetError, match=r"'picture' is no field of this stream; it has \['image', 'label'\]"):
            next(stream.generator(inputs="picture"))
        with pytest.raises(KeyError, match=r"the batch has the fields \['image', 'label'\]"):
            next(iter(stream))["picture"]


# -- interrupts, forks, deaths -----------------------------------------------------------------------------------

SLOW = "import time\ndef slow(sample):\n    time.sleep(0.4)\n    return sample\n"


@pytest.mark.slow
def test_ctrl_c_inside_next_leaves_a_stream_that_goes_on(pictures, user_module, tmp_path):
    user_module("slow", SLOW)
    script = """
import sys, loader_client
sys.path.insert(0, sys.argv[2])
from loader_service import Dataset
dataset = Dataset.from_image_folder(sys.argv[1]).resize(8, 8).map("slow:slow").batch(4)
with loader_client.connect(workers=2) as loader:
    stream = loader.stream(dataset, prefetch=2)
    try:
        print("waiting", flush=True)
        stream.take(0)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print([stream.take(n).n for n in (0, 1)], flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(pictures), str(tmp_path / "user_code")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)

    assert out == "interrupted\n[0, 1]\n"
    assert process.returncode == 0


def test_a_forked_child_refuses_to_use_the_stream(augmented):
    """ZeroMQ sockets do not survive a fork; a sentence is better than a hang or a crash."""
    with loader_client.connect(workers=1) as loader:
        stream = loader.stream(augmented)
        next(iter(stream))
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                next(iter(stream))
            except StreamClosed as error:
                os.write(tell, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(tell)
        with os.fdopen(told) as pipe:
            assert "its fork" in pipe.read()

        assert next(iter(stream)).n == 1


PRIVATE = """
import sys, time, loader_client
from loader_service import Dataset
with loader_client.connect() as loader:
    stream = loader.stream(Dataset.from_image_folder(sys.argv[1]).resize(8, 8).batch(4))
    next(iter(stream))
    print(loader.address, flush=True)
    time.sleep(600)
"""


def test_a_private_daemon_dies_with_its_script_even_by_kill_9(pictures):
    process = subprocess.Popen([sys.executable, "-c", PRIVATE, str(pictures)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("ipc://")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3

    process.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=10)

    assert not [member for member in family if is_alive(member.pid)]


def test_the_scripts_prints_in_workers_reach_its_stderr(pictures, user_module, tmp_path):
    user_module("talkative", "import warnings\ndef say(sample):\n    print('hello from a worker')\n    return sample\n")
    script = """
import sys, loader_client
sys.path.insert(0, sys.argv[2])
from loader_service import Dataset
with loader_client.connect(workers=1) as loader:
    list(loader.stream(Dataset.from_image_folder(sys.argv[1]).resize(8, 8).map("talkative:say").batch(37)))
"""
    done = run_script(script, str(pictures), str(tmp_path / "user_code"))

    assert done.returncode == 0, done.stderr
    assert "hello from a worker" in done.stderr
    assert done.stdout == ""


def test_a_late_joiner_begins_where_the_foremost_reader_is_and_shares_its_batches(augmented):
    with loader_client.connect(workers=1) as loader:
        leader = loader.stream(augmented, prefetch=2)
        for n in range(30):
            leader.take(n)
        late = loader.stream(augmented, prefetch=2, start="latest")

        assert 28 <= late.cursor <= 30
        for n in range(late.cursor, 40):
            assert digest([late.take(n)]) == digest([leader.take(n)])


def test_a_stream_may_begin_at_any_batch(augmented):
    with loader_client.connect(workers=0) as loader:
        assert loader.stream(augmented, start=12).take(12).n == 12
        with pytest.raises(ValueError, match="start is -1, expected the number of a batch"):
            loader.stream(augmented, start=-1)


@pytest.mark.parametrize("workers", [0, 1])
def test_code_that_makes_another_sample_each_time_is_warned_of(user_module, workers):
    user_module(
        "impure",
        "import os\n\ndef noise(sample):\n    return {'x': float(os.urandom(4)[0] * 1000 + os.urandom(1)[0])}\n",
    )
    ds = Dataset.from_arrays(x=np.zeros(8)).map("impure:noise").batch(4)

    with (
        loader_client.connect(workers=workers) as loader,
        pytest.warns(loader_client.DatasetWarning, match="'impure:noise' makes another sample each time"),
    ):
        loader.stream(ds)
