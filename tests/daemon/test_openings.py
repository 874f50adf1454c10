"""Who opens which dataset, and what comes of it: rules, without a process."""

from dataclasses import replace

import pytest

from loader_service.daemon.openings import ATTEMPTS, LOSSES, Openings
from loader_service.protocol.messages import DatasetOpened, DatasetRefused
from loader_service.protocol.shard import WHOLE
from loader_service.protocol.spec import DatasetInfo, FieldSpec

ROWS = {"source": {"kind": "arrays"}}
SEQUENCE = {"source": {"kind": "keras"}}
INFO = DatasetInfo("key", {"x": FieldSpec((), "int64")}, 4, 8, 2, False, ["x"], [], [])
OPENED = DatasetOpened(1, INFO, {}, [], "proof")


def openings_of(declaration):
    openings = Openings()
    openings.add(1, declaration, WHOLE)
    return openings


def told(openings, load):
    """Return who is told to open the next dataset."""
    assigned = openings.assign(load)
    return None if assigned is None else assigned[1]


def test_the_least_busy_worker_opens_a_dataset_and_nobody_else():
    openings = openings_of(ROWS)

    assert told(openings, {}) is None
    assert told(openings, {5: 2, 7: 1, 8: 1}) == [7]
    assert told(openings, {5: 2, 7: 1, 8: 1}) is None
    assert openings.opened(7, OPENED) == OPENED


def test_when_it_dies_another_one_does():
    openings = openings_of(ROWS)
    told(openings, {1: 0, 2: 0})

    assert openings.worker_ended(2, "killed by SIGKILL") == []
    assert told(openings, {2: 0}) is None, "it was somebody else who died"
    assert openings.worker_ended(1, "killed by SIGKILL") == []
    assert told(openings, {2: 0}) == [2]


@pytest.mark.parametrize(("how", "deaths"), [("exited with 3", ATTEMPTS), ("killed by SIGKILL", LOSSES)])
def test_after_some_deaths_the_first_sample_is_blamed_and_after_some_more_the_dataset_is_refused(how, deaths):
    openings = openings_of(ROWS)
    for round_ in range(2):
        for death in range(deaths):
            opening, (worker,) = openings.assign({death: 0})
            assert bool(opening.blame) == bool(round_)
            known = openings.worker_ended(worker, how)

    (refused,) = known
    assert isinstance(refused, DatasetRefused)
    assert f"{deaths} workers died while each opened the dataset; the last was {how}" in refused.error.message


def test_whole_batches_are_opened_by_two_workers_where_there_are_two():
    assert told(openings_of(SEQUENCE), {1: 0}) == [1]
    openings = openings_of(SEQUENCE)

    assert told(openings, {1: 0, 2: 0, 3: 0}) == [1, 2]
    assert openings.opened(2, OPENED) is None
    assert openings.opened(1, OPENED) == OPENED


def test_if_two_workers_make_other_batches_these_can_only_be_read_live():
    openings = openings_of(SEQUENCE)
    told(openings, {1: 0, 2: 0})
    openings.opened(1, OPENED)

    found = openings.opened(2, replace(OPENED, proof="another one"))

    assert found.info.live
    assert "in each worker" in found.doubts[0]


@pytest.mark.parametrize(
    ("said", "dies", "known"), [(None, 1, []), (None, 2, []), (1, 1, []), (1, 2, [OPENED]), (2, 1, [OPENED])]
)
def test_of_two_workers_that_open_one_the_other_ones_word_counts_if_one_dies(said, dies, known):
    openings = openings_of(SEQUENCE)
    told(openings, {1: 0, 2: 0})
    if said is not None:
        openings.opened(said, OPENED)

    assert openings.worker_ended(dies, "killed by SIGKILL") == known
    if not known:
        assert openings.opened(3 - dies, OPENED) == OPENED


def test_what_nobody_waits_for_is_nobodys_any_more():
    openings = openings_of(ROWS)

    assert openings.forget(1)
    assert not openings.forget(1)
    assert told(openings, {1: 0}) is None
