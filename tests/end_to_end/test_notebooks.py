"""As notebooks are used: cells that are interrupted, run again, and whose results are kept for ever."""

import json
import os

import pytest

from tests.end_to_end.conftest import run_script

pytestmark = pytest.mark.slow

CONNECT = """
import loader_client, numpy as np
from loader_service import Dataset
rows = Dataset.from_arrays(x=np.zeros((256, 64), np.float32)).shuffle(seed=1).batch(32)
loader = loader_client.connect(workers=1)
stream = loader.stream(rows)
batch = next(iter(stream))
"""

RUN_AGAIN = """
import gc, json, os, sys, threading, time
from pathlib import Path
import psutil

shell, cell = sys.argv[1:]
if shell == "IPython":
    from IPython.core.interactiveshell import InteractiveShell
    ipython = InteractiveShell.instance(banner1="", display_banner=False)
    def run():
        assert ipython.run_cell(cell, store_history=True).success
else:
    namespace = {}
    code = compile(cell, "cell", "exec")
    def run():
        exec(code, namespace)

def look():
    gc.collect()
    children = [child for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    descriptors = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return {
        "processes": len(children),
        "threads": threading.active_count(),
        "sockets": sum("socket:" in path for path in descriptors),
        "mappings": Path("/proc/self/maps").read_text().count("/memfd:loader-service"),
        "folders": len(list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("private-*"))),
    }

run()
once = look()
for _ in range(4):
    run()
deadline = time.monotonic() + 10  # the daemon before takes a moment to be gone
while (often := look()) != once and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps([once, often]), file=sys.stderr)
"""


def run_again(shell, cell, tmp_path):
    """Run a cell once, then four times more; return what there was after the first time and after the last."""
    environment = {
        **os.environ,
        "IPYTHONDIR": str(tmp_path),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = run_script(RUN_AGAIN, shell, cell, env=environment)
    assert done.returncode == 0, done.stderr
    once, often = json.loads(done.stderr.splitlines()[-1])
    assert once["processes"] == 3  # daemon, template, worker
    return once, often


@pytest.mark.parametrize("shell", ["exec", "IPython"])
def test_a_cell_that_is_run_again_replaces_its_daemon_its_connection_and_its_memory(shell, tmp_path):
    once, often = run_again(shell, CONNECT, tmp_path)

    assert often == once


def test_a_stream_that_the_notebook_has_shown_does_not_keep_its_connection(tmp_path):
    """IPython keeps whatever a cell showed, in `Out`."""
    once, often = run_again("IPython", f"{CONNECT}\nstream", tmp_path)

    assert often == once


FIT = """
import keras
model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(stream.keras(inputs="x", targets="x"), verbose=0)
"""


def test_a_cell_with_a_fit_that_is_run_again_keeps_nothing_of_the_fit_before(tmp_path):
    once, often = run_again("exec", CONNECT.replace("batch = ", "") + FIT, tmp_path)

    assert often == once


INTERRUPTED_FIT = """
import os, signal, sys, threading
import keras, numpy as np, tensorflow as tf
import loader_client
from loader_service import Dataset

sys.path.insert(0, sys.argv[1])
when = sys.argv[2]
rows = Dataset.from_arrays(x=np.arange(400, dtype=np.float32).reshape(100, 4), y=np.arange(100, dtype=np.float32))
rows = rows.map("slow:slow").shuffle(seed=4).batch(10)

class Recorder(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.trained = keras.layers.Dense(1), []
    def call(self, inputs):
        return self.dense(inputs)
    def train_step(self, batch):
        tf.py_function(lambda y: self.trained.append(y.numpy().astype(int).tolist()), [batch[1]], [])
        return super().train_step(batch)

class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2 and when == "in a callback":
            signal.raise_signal(signal.SIGINT)
        elif batch == 2:  # while the trainer waits for a batch that takes longer
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

model = Recorder()
model.compile("sgd", "mse")
with loader_client.connect(workers=1) as loader:
    stream = loader.stream(rows, prefetch=2)
    feed = stream.keras()
    try:
        model.fit(feed, epochs=9, verbose=0, callbacks=[Interrupt()])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    for again in (feed, stream.keras()):
        model.trained.clear()
        model.fit(again, verbose=0)
        epoch = stream.cursor // 10 - 1
        expected = [rows.compute(n)["y"].astype(int).tolist() for n in range(10 * epoch, 10 * epoch + 10)]
        print(epoch, model.trained == expected, flush=True)
"""


@pytest.mark.parametrize("when", ["in a callback", "while it waits"])
def test_ctrl_c_in_the_middle_of_a_fit_leaves_a_stream_that_the_next_fit_takes(when, tmp_path):
    """The epoch that was cut short is given up; the next fit trains the whole of the next one."""
    (tmp_path / "slow.py").write_text("import time\ndef slow(sample):\n    time.sleep(0.02)\n    return sample\n")

    done = run_script(INTERRUPTED_FIT, str(tmp_path), when)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "interrupted\n1 True\n2 True\n"
