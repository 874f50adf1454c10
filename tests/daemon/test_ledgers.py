"""The ledgers of a daemon: who is judged bad, who is told, and what reaches the disk."""

import asyncio
import time

import pytest

from loader_service.daemon.ledgers import Ledgers
from loader_service.dataset.ledger_file import LedgerFile, ledger_path
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import SampleError
from loader_service.protocol.ledger import BadSample
from loader_service.protocol.spec import DatasetInfo

KEY = "0a" * 16
OOPS = failed(SampleError("oops"))


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A state folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def bad(*ids):
    return [BadSample(sample_id, f"{sample_id}.jpg", "it is empty") for sample_id in ids]


def info(most_replaced):
    return DatasetInfo(
        KEY, {}, 8, 100, 13, shuffled=True, inputs=[], targets=[], class_names=[], most_replaced=most_replaced
    )


def with_ledgers(history):
    """Run a history of a daemon's ledgers in an event loop; return what their listener was told, by sample."""
    grown = []

    async def run():
        ledgers = Ledgers(lambda key, samples: grown.extend((key, sample.id) for sample in samples))
        await history(ledgers)
        ledgers.close()

    asyncio.run(run())
    return grown


async def until(condition):
    """Let the loop run until a condition is met."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.001)


def test_a_sample_is_replaced_where_that_may_be_and_everybody_is_told_once():
    async def history(ledgers):
        assert ledgers.judge(info(2), bad(3)[0], OOPS) is None
        assert ledgers.judge(info(2), bad(3)[0], OOPS) is None

    assert with_ledgers(history) == [(KEY, 3)]
    assert LedgerFile(KEY).news() == bad(3)


def test_without_the_policy_its_error_stands():
    async def history(ledgers):
        assert ledgers.judge(info(0), bad(3)[0], OOPS) == OOPS

    assert with_ledgers(history) == []
    assert not ledger_path(KEY).parent.exists()


def test_one_too_many_is_an_error_with_the_traceback_of_the_last():
    noted = failed(SampleError("oops"))
    noted.notes.append("Traceback")

    async def history(ledgers):
        ledgers.enter(KEY, bad(3, 4))
        told = ledgers.judge(info(2), bad(5)[0], noted)
        assert told.name == "SampleError"
        assert told.message.startswith(
            "3 of 100 samples cannot be made, and no more than 2 may be replaced: sample 5 ("
        )
        assert str(ledger_path(KEY)) in told.message
        assert told.notes == ["Traceback"]
        assert ledgers.judge(info(2), bad(4)[0], OOPS) is None

    assert with_ledgers(history) == [(KEY, 3), (KEY, 4)]


def test_all_is_on_the_disk_in_the_end_though_the_disk_is_slower_than_the_samples():
    async def history(ledgers):
        for sample_id in range(50):
            assert ledgers.judge(info(60), bad(sample_id)[0], OOPS) is None
            if sample_id % 10 == 0:
                await asyncio.sleep(0)

    with_ledgers(history)

    assert LedgerFile(KEY).news() == bad(*range(50))


def test_what_another_daemon_has_written_is_learnt_with_the_next_sample():
    LedgerFile(KEY).record(bad(7))

    async def history(ledgers):
        ledgers.judge(info(60), bad(3)[0], OOPS)
        await until(lambda: 7 in ledgers.of(KEY))

    assert with_ledgers(history) == [(KEY, 3), (KEY, 7)]


def test_a_disk_that_takes_nothing_keeps_nobody_from_going_on(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc")

    async def history(ledgers):
        for sample_id in range(5):
            assert ledgers.judge(info(60), bad(sample_id)[0], OOPS) is None

    assert with_ledgers(history) == [(KEY, sample_id) for sample_id in range(5)]
