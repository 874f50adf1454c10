"""A ledger on the disk: whole or not there, shared by those who write it, and no reason to stop if it cannot be had."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loader_service.dataset.ledger_file import LedgerFile, ledger_path
from loader_service.protocol.ledger import BadSample

KEY = "0a" * 16


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of the test's own, which does not exist yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def bad(*ids):
    return [BadSample(sample_id, f"{sample_id}.jpg", "it is empty") for sample_id in ids]


def test_what_was_recorded_is_read_by_the_next_process(state):
    assert LedgerFile(KEY).record(bad(3, 1)) == bad(3, 1)

    assert LedgerFile(KEY).news() == bad(3, 1)
    assert ledger_path(KEY) == state / "loader-service" / "ledgers" / f"{KEY}.json"


def test_people_can_read_it():
    LedgerFile(KEY).record(bad(3))

    assert json.loads(ledger_path(KEY).read_text()) == {
        "key": KEY,
        "samples": [{"id": 3, "file": "3.jpg", "reason": "it is empty"}],
    }


def test_nothing_is_news_until_another_one_writes():
    ours, theirs = LedgerFile(KEY), LedgerFile(KEY)
    assert ours.news() == []
    theirs.record(bad(3))

    assert ours.news() == bad(3)
    assert ours.news() == []
    theirs.record(bad(3, 4))
    assert ours.news() == bad(3, 4)


def test_who_writes_keeps_what_others_have_found_and_learns_of_it():
    ours, theirs = LedgerFile(KEY), LedgerFile(KEY)
    theirs.record(bad(7))

    assert ours.record(bad(3)) == bad(7, 3)
    assert theirs.news() == bad(7, 3)


WRITER = """
import sys
from loader_service.dataset.ledger_file import LedgerFile
from loader_service.protocol.ledger import BadSample

file, found = LedgerFile(sys.argv[1]), []
for sample_id in range(int(sys.argv[2]), 200, 4):
    found.append(BadSample(sample_id, f"{sample_id}.jpg", "it is empty"))
    file.record(found)
"""


def test_nothing_is_lost_where_several_write_at_the_same_time():
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, KEY, str(first)]) for first in range(4)]
    file = LedgerFile(KEY)
    while any(writer.poll() is None for writer in writers):
        file.news()  # never half a file: it would be set aside
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]

    assert sorted(sample.id for sample in LedgerFile(KEY).news()) == list(range(200))
    assert not ledger_path(KEY).with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\xff\xfe" + content,
        lambda content: b"[]",
        lambda content: content.replace(b'"id": 3', b'"id": -3'),
        lambda content: content.replace(b'"samples"', b'"sample"'),
        lambda content: content.replace(KEY.encode(), b"another"),
    ],
    ids=["cut in half", "empty", "no text", "a list", "no number", "no samples", "of another key"],
)
def test_what_is_no_ledger_is_set_aside_with_a_warning_and_begun_anew(caplog, damage):
    LedgerFile(KEY).record(bad(3, 4))
    path = ledger_path(KEY)
    path.write_bytes(damage(path.read_bytes()))

    assert LedgerFile(KEY).news() == []
    assert LedgerFile(KEY).record(bad(5)) == bad(5)

    assert path.with_suffix(".damaged").exists()
    assert LedgerFile(KEY).news() == bad(5)
    assert f"{path} is no ledger" in caplog.text
    assert f"set aside as {KEY}.damaged" in caplog.text


def test_a_full_disk_is_told_once_and_leaves_the_old_file(caplog):
    """/dev/full takes the place of the new file: every write to it finds no space."""
    file = LedgerFile(KEY)
    file.record(bad(3))
    caplog.clear()
    for _ in range(2):
        ledger_path(KEY).with_suffix(".new").symlink_to("/dev/full")
        assert file.record(bad(3, 4)) == bad(3, 4)

    (told,) = caplog.messages
    assert told == (
        f"{ledger_path(KEY)} cannot be written (No space left on device): which samples are replaced is remembered in "
        "memory only"
    )
    assert LedgerFile(KEY).news() == bad(3)


def test_when_there_is_space_again_all_is_written(caplog):
    file = LedgerFile(KEY)
    file.record(bad(3))
    ledger_path(KEY).with_suffix(".new").symlink_to("/dev/full")
    file.record(bad(3, 4))

    file.record(bad(3, 4, 5))

    assert LedgerFile(KEY).news() == bad(3, 4, 5)


def test_what_a_writer_left_that_was_killed_does_not_disturb():
    LedgerFile(KEY).record(bad(3))
    ledger_path(KEY).with_suffix(".new").write_text('{"key": "0a')

    assert LedgerFile(KEY).record(bad(4)) == bad(3, 4)
    assert [path.name for path in ledger_path(KEY).parent.glob(f"{KEY}*")] == [f"{KEY}.json"]


def test_a_state_folder_that_cannot_be_made_is_told(state, caplog):
    state.write_text("a file")

    assert LedgerFile(KEY).news() == []
    assert LedgerFile(KEY).record(bad(3)) == bad(3)
    assert "cannot be written (Not a directory)" in caplog.text


@pytest.mark.parametrize("unset", [True, False])
def test_without_a_state_folder_it_lies_in_the_home(tmp_path, monkeypatch, unset):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME") if unset else monkeypatch.setenv("XDG_STATE_HOME", "relative")

    assert ledger_path(KEY) == Path(tmp_path, ".local/state/loader-service/ledgers", f"{KEY}.json")
