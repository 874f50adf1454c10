"""Where passes begin, and what is left of one that is resumed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_client.passes import Pass, Passes, Position
from loader_service.protocol.spec import DatasetInfo

EPOCH = 5  # batches
INFO = DatasetInfo("key", {}, 4, 20, EPOCH, True, [], [], [])
OPTIONS = st.sampled_from([{}, {"steps": 3}, {"steps": 7}, {"steps": 7, "rolling": True}, {"steps": 5}])


def run_of(passes, position):
    return [*passes.numbers(passes.at(position))]


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"steps": 7}, {"steps": 7, "rolling": True}, {"steps": 5}])
@pytest.mark.parametrize("advance", [True, False])
def test_what_is_left_of_a_pass_is_what_its_first_batches_leave(options, advance):
    passes = Passes(INFO, advance=advance, **options)
    whole = passes.at(Position(10))
    numbers = [*passes.numbers(whole)]

    for done in range(1, whole.length):
        cursor = whole.first + done if advance else 10
        rest = passes.at(Position(cursor, done=done))
        assert [*passes.numbers(rest)] == numbers[done:]
        assert passes.after(rest) == passes.after(whole)


@given(first=st.integers(0, 12), options=OPTIONS, advance=st.booleans(), most=st.integers(1, 9))
def test_a_pass_is_the_same_in_stretches(first, options, advance, most):
    """Of batches that follow one another: what is asked for at once."""
    passes = Passes(INFO, advance=advance, **options)
    run = passes.at(Position(first))
    found: list[int] = []
    while len(found) < run.length:
        n, follow = passes.stretch(run, len(found))
        assert follow >= 1
        found += range(n, n + min(most, follow))

    assert found == [*passes.numbers(run)]


def test_a_pass_that_had_all_that_passes_have_now_is_over():
    """They were longer when it began."""
    assert run_of(Passes(INFO, steps=3), Position(4, done=4)) == [5, 6, 7]
    assert run_of(Passes(INFO, steps=3, rolling=True), Position(4, done=4)) == [4, 5, 6]
    assert run_of(Passes(INFO, advance=False), Position(0, done=6)) == [*range(EPOCH)]


def test_what_is_left_is_whole_executions_where_one_iterator_runs_on():
    passes = Passes(INFO, steps=7, stride=2)

    assert passes.longest == 8
    assert passes.at(Position(3, done=3)) == Pass(3, 4)
