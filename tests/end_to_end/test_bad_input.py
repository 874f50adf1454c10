"""What is asked wrongly is answered with a sentence: what is wrong, what was expected, what to do."""

import os
import subprocess
import threading

import numpy as np
import pytest

import loader_client
from loader_client import AddressError, DatasetError, ProtocolError
from loader_service import Dataset, __version__
from loader_service.protocol.address import Address
from loader_service.protocol.launch import end, launch
from loader_service.protocol.messages import PROTOCOL
from tests.end_to_end.conftest import COMMAND, PATIENCE


def command(*arguments):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("name", ["start", "status", "stop"])
def test_a_path_too_long_for_a_socket_is_an_error_of_every_command(name):
    done = command(name, "--address", f"ipc:///tmp/{'x' * 120}")

    assert done.returncode == 1
    assert "27 bytes longer than a socket's path may be (107 bytes): choose a shorter folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("start", [["start"], ["start", "--detach"]])
def test_a_folder_that_cannot_be_made_says_how_to_choose_another(start):
    """/proc takes no folders, not even root's."""
    done = command(*start, "--workers", "1", "--address", "ipc:///proc/daemon")

    assert done.returncode == 1
    assert "AddressError: the folder /proc/daemon for sockets cannot be made: " in done.stderr
    assert "Choose another with --address or $LOADER_SERVICE_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runtime_folder_that_takes_no_folders_is_an_error_of_a_private_daemon_too(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))

    with pytest.raises(AddressError, match=r"cannot be made: Not a directory\. .* \$XDG_RUNTIME_DIR, else \$TMPDIR"):
        loader_client.connect(workers=1)


@pytest.fixture
def daemon_of_another_version(address, tmp_path, monkeypatch):
    """A daemon, template and workers whose messages have another PROTOCOL."""
    patch = f"import loader_service.protocol.messages as messages\nmessages.PROTOCOL = {PROTOCOL + 1}\n"
    (tmp_path / "sitecustomize.py").write_text(patch)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        process, _ = launch(Address.parse(address), ["--workers", "1", "--log-level", "ERROR"])
    yield address
    end(process)


def test_a_daemon_of_another_version_is_told_from_its_client_with_both_versions(daemon_of_another_version):
    told = (
        rf"this client \(loader-service [\d.]+\) speaks protocol {PROTOCOL}, "
        rf"the daemon \(loader-service [\d.]+\) speaks protocol {PROTOCOL + 1}: install the same version on both sides"
    )

    with pytest.raises(ProtocolError, match=told):
        loader_client.connect(daemon_of_another_version)
    for name in (["status"], ["scale", "2"], ["stop"]):
        done = command(*name)
        assert done.returncode == 1
        assert f"ProtocolError: this client (loader-service {__version__}) speaks protocol {PROTOCOL}" in done.stderr


# -- two threads on one stream -----------------------------------------------------------------------------------

ROWS = 2_000


def read_with_two_threads(draw):
    """Have two threads draw until `draw` has no more; return what they got, and what they raised."""
    drawn, raised = [], []
    together = threading.Barrier(2)

    def read():
        together.wait()
        try:
            while True:
                drawn.append(draw())
        except StopIteration:
            return
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return drawn, raised


@pytest.mark.parametrize("workers", [0, 2])
def test_two_threads_on_one_stream_get_each_batch_once(workers, user_module):
    user_module("slow", "import time\ndef slow(sample):\n    time.sleep(0.001)\n    return sample\n")
    dataset = Dataset.from_arrays(x=np.arange(ROWS)).map("slow:slow").shuffle(seed=1).batch(20)
    with loader_client.connect(workers=workers) as loader:
        epoch = iter(loader.stream(dataset))
        drawn, raised = read_with_two_threads(lambda: next(epoch).n)

    assert not raised
    assert sorted(drawn) == list(range(100))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_threads_each_with_a_stream_of_their_own_do_not_disturb_each_other(workers):
    dataset = Dataset.from_arrays(x=np.arange(ROWS)).shuffle(seed=1).batch(20)
    with loader_client.connect(workers=workers) as loader:
        epochs = {}
        streams = [loader.stream(dataset) for _ in range(2)]

        def draw():
            thread = threading.get_ident()
            if thread not in epochs:
                epochs[thread] = iter(streams.pop())
            return next(epochs[thread]).n

        drawn, raised = read_with_two_threads(draw)

    assert not raised
    assert sorted(drawn) == sorted([*range(100), *range(100)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"workers": "2"}, "workers is '2', expected a number of processes from 0 to 4,096, or None"),
        ({"workers": -1}, "workers is -1, expected a number of processes"),
        ({"workers": True}, "workers is True, expected a number of processes"),
        ({"address": 5}, "address is 5, expected text, as in 'ipc:///tmp/my-loader', or None"),
        ({"reconnect": -1, "workers": 0}, "reconnect is -1, expected 0 seconds or more"),
    ],
)
def test_what_connect_cannot_use_is_told_with_what_it_expects(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        loader_client.connect(**arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_iteration_ends_where_numbers_of_batches_end(workers):
    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(Dataset.from_arrays(x=np.arange(8)).batch(4))
        stream.move(2**62 + 1)
        with pytest.raises(ValueError, match="batches count from 0"):
            next(iter(stream))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_stream_cannot_use_is_told_with_what_it_expects(workers):
    dataset = Dataset.from_arrays(x=np.arange(8)).batch(4)
    with loader_client.connect(workers=workers) as loader:
        stream = loader.stream(dataset)
        for prefetch in (0, 2.5, 10**9, "8"):
            with pytest.raises(ValueError, match="expected a number of batches from 1 to 65,536"):
                loader.stream(dataset, prefetch=prefetch)
        with pytest.raises(ValueError, match="dataset is None, expected a Dataset, or a name that the daemon serves"):
            loader.stream(None)
        for n in (-1, 0.5, None):
            with pytest.raises(ValueError, match="batches count from 0"):
                stream.take(n)
        for state in (None, {}, {"version": 1, "n": 1}):
            with pytest.raises(DatasetError, match="is no state of a stream"):
                stream.load_state_dict(state)
        assert stream.take(np.int64(1)).n == 1
