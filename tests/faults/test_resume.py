"""A training that is killed anywhere, any number of times, ends as one that nobody disturbs."""

import random
import subprocess
import sys
import time

import pytest

import loader_client
from loader_client.backup import Backups
from tests.faults import resume

WRITER = """
import sys
import numpy as np
from pathlib import Path
from loader_client.backup import Backups, Progress

backups = Backups(Path(sys.argv[1]))
found = backups.choose(0)
step = found.progress.iterations if found else 0
while True:
    step += 1
    progress = Progress(stream={}, epoch=0, batches=0, optimizer="SGD", iterations=step, arrays=5)
    backups.write(progress, ((f"model/{k}", np.full(20_000, step)) for k in range(5)))
    print(step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fit_that_is_killed_again_and_again_trains_what_an_undisturbed_one_trains(tmp_path, nothing_left, address):
    """Three of the resumes are in one epoch, where Keras' own callback goes wrong with the second."""
    pytest.importorskip("tensorflow")
    deaths = [("batch has ended", 4), ("backup is written", 2), ("validation has begun", 1), ("epoch has ended", 2)]
    with loader_client.connect(workers=1) as loader:
        undisturbed = resume.start(tmp_path / "undisturbed", loader.address)
        resume.follow_schedule(tmp_path / "disturbed", loader.address, deaths)
        assert resume.end(undisturbed) == 0

    resume.compare(tmp_path / "disturbed", tmp_path / "undisturbed")
    assert len(resume.trained(tmp_path / "undisturbed")) == 18


@pytest.mark.slow
def test_whoever_kills_the_writer_of_backups_leaves_the_last_one_whole(tmp_path):
    """Warnings are errors here: not even one that is passed over."""
    choose, told = random.Random(1), 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
            lines = [writer.stdout.readline()]
            time.sleep(choose.random() * 0.05)  # no synchronisation: the moment of its death
            writer.kill()
            lines += writer.stdout.read().splitlines()
        told = max([told, *(int(line) for line in lines if line.strip())])

        backup = Backups(tmp_path).choose(0)

        assert backup.progress.iterations in (told, told + 1)
        for _, array in backup.arrays():
            assert (array == backup.progress.iterations).all()
        assert len(Backups(tmp_path)._files()) <= 3
