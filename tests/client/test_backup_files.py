"""The files of backups: what is written, kept, and known to be damaged. Without a model."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from loader_client import BackupError
from loader_client.backup import Backups, Progress
from tests.limits import largest_file

ARRAYS = {"model/0": np.arange(6.0).reshape(2, 3), "model/1": np.float32(2), "optimizer/0": np.int64(3)}


def progress(iterations):
    return Progress(stream={"n": 3}, epoch=1, batches=2, optimizer="Adam", iterations=iterations, arrays=3)


@pytest.fixture
def backups(tmp_path):
    return Backups(tmp_path / "deep" / "backups")


def write(backups, iterations):
    backups.write(progress(iterations), ((name, np.asarray(array)) for name, array in ARRAYS.items()))


def content(backup):
    return {name: (array.dtype, array.tolist()) for name, array in backup.arrays()}


def test_what_is_written_is_what_is_read(backups):
    assert backups.choose(0) is None
    write(backups, 3)

    backup = backups.choose(0)

    assert backup.progress == progress(3)
    assert content(backup) == {name: (np.asarray(array).dtype, array.tolist()) for name, array in ARRAYS.items()}


def test_the_newest_is_that_of_the_highest_number_however_long(backups):
    backups.folder.mkdir(parents=True)
    write(backups, 1)
    (backups.folder / "backup-000000.npz").rename(backups.folder / "backup-999999.npz")
    write(backups, 2)
    write(backups, 3)

    assert backups.choose(0).progress.iterations == 3
    assert sorted(path.name for path in backups.folder.iterdir()) == ["backup-1000000.npz", "backup-1000001.npz"]


@pytest.mark.parametrize("nbytes", [0, 100, 100_000, 1_000_000, 2_400_500])
def test_a_disk_that_is_full_in_the_middle_of_a_backup_leaves_those_that_are_there(backups, nbytes):
    write(backups, 1)
    write(backups, 2)
    before = {path: path.read_bytes() for path in backups.folder.iterdir()}
    descriptors = len([*Path("/proc/self/fd").iterdir()])

    with largest_file(nbytes), pytest.raises(OSError, match="File too large"):
        backups.write(progress(3), ((f"model/{number}", np.zeros(100_000)) for number in range(3)))

    assert {path: path.read_bytes() for path in backups.folder.iterdir()} == before
    assert len([*Path("/proc/self/fd").iterdir()]) == descriptors


def test_no_damage_is_taken_for_a_backup(backups):
    """Cut anywhere, or a byte changed anywhere: it is passed over, or what is read is what was written."""
    write(backups, 3)
    (path,) = backups.folder.iterdir()
    whole, expected = path.read_bytes(), content(backups.choose(0))
    cuts = [whole[:length] for length in range(0, len(whole), 7)]
    changes = [whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :] for at in range(len(whole))]
    passed_over = 0
    for damaged in [*cuts, *changes]:
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                backup = backups.choose(0)
            except BackupError:
                passed_over += 1
                continue
        assert backup.progress == progress(3)
        assert content(backup) == expected

    assert passed_over > len(cuts) + len(changes) * 0.7
