"""Which sample takes the place of a bad one: always one, never a bad one, and the same for as long as that is good."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.dataset.replacing import Replacing
from loader_service.dataset.selection.selection import Everything


@st.composite
def cases(draw):
    """Return (samples, seed, a ledger that keeps at least one of them, as a list)."""
    samples = draw(st.integers(1, 60))
    bad = draw(st.lists(st.integers(0, samples - 1), unique=True, max_size=samples - 1))
    return samples, draw(st.integers(0, 2**63 - 1)), bad


def replacing(samples, seed, bad):
    made = Replacing(Everything(samples), seed)
    made.grow(bad)
    return made


@given(cases())
def test_every_bad_sample_has_a_replacement_that_is_not_bad(case):
    samples, _, bad = case
    rule = replacing(*case)

    for sample_id in bad:
        assert 0 <= rule.of(sample_id) < samples
        assert rule.of(sample_id) not in bad


@given(cases())
def test_a_good_sample_stands_for_itself(case):
    samples, _, bad = case
    rule = replacing(*case)

    assert [rule.of(sample_id) for sample_id in range(samples) if sample_id not in bad] == sorted(
        set(range(samples)) - set(bad)
    )


@given(cases(), st.randoms())
def test_the_replacement_depends_on_the_set_of_bad_samples_alone(case, random):
    """Not on the order in which they were found, nor on what was looked up in between."""
    samples, seed, bad = case
    at_once = replacing(*case)
    one_by_one = Replacing(Everything(samples), seed)
    for sample_id in random.sample(bad, len(bad)):
        one_by_one.grow([sample_id])
        one_by_one.apply(np.arange(samples))

    assert at_once.apply(np.arange(samples)).tolist() == one_by_one.apply(np.arange(samples)).tolist()


@given(cases(), st.data())
def test_a_row_changes_exactly_if_the_sample_in_it_is_found_to_be_bad(case, data):
    """So rows that were made under a smaller ledger need not be made again."""
    samples, _, bad = case
    rule = replacing(*case)
    before = rule.apply(np.arange(samples)).tolist()
    good = sorted(set(range(samples)) - set(bad))
    more = data.draw(st.lists(st.sampled_from(good), unique=True, max_size=len(good) - 1))

    rule.grow(more)

    for old, new in zip(before, rule.apply(np.arange(samples)).tolist(), strict=True):
        assert (old != new) == (old in more)


def test_replacements_are_spread_over_all_samples():
    """Not the neighbour's: pictures of one class lie side by side."""
    rule = replacing(1000, 7, range(0, 1000, 10))

    found = [rule.of(sample_id) for sample_id in range(0, 1000, 10)]

    assert len(set(found)) > 80
    assert 350 < np.mean(found) < 650


def test_replacements_are_other_ones_for_another_seed():
    bad = range(0, 100, 10)

    assert [replacing(100, 1, bad).of(i) for i in bad] != [replacing(100, 2, bad).of(i) for i in bad]


def test_replacements_stay_what_they_are_in_later_versions():
    """A saved state belongs to these."""
    rule = replacing(1000, 7, [3, 4, 500])

    assert [rule.of(sample_id) for sample_id in (3, 4, 500)] == [496, 948, 968]


def test_ids_without_a_bad_one_are_handed_through():
    """A dataset without bad samples, which is most of them, pays nothing."""
    ids = np.arange(5)

    assert replacing(10, 0, []).apply(ids) is ids
    assert replacing(10, 0, [7]).apply(ids) is ids


def test_no_replacement_where_all_are_bad():
    from loader_service.protocol.errors import SampleError

    with pytest.raises(SampleError, match="none of the 3 samples can be made"):
        replacing(3, 0, [0, 1, 2]).of(1)
