"""The ledger: what equal hashes mean, and what was found since."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader_service.protocol.codec import decode, encode
from loader_service.protocol.errors import DatasetError, SampleError, SpecMismatch
from loader_service.protocol.ledger import MAX_REASON, BadSample, Ledger, error_about, sample_of
from loader_service.protocol.messages import SamplesReplaced

ids = st.lists(st.integers(0, 2**63 - 1), max_size=20)


def bad(sample_id):
    return BadSample(sample_id, f"{sample_id}.jpg", "it is empty")


def ledger_of(ids):
    return Ledger(map(bad, ids))


@given(ids, st.randoms())
def test_ledgers_of_the_same_samples_have_the_same_hash_in_whatever_order_these_were_found(found, random):
    shuffled = random.sample(found, len(found))

    assert ledger_of(found).hash == ledger_of(shuffled).hash


@given(ids, ids)
def test_ledgers_of_other_samples_have_other_hashes(some, others):
    assert (ledger_of(some).hash == ledger_of(others).hash) == (set(some) == set(others))


def test_an_empty_ledger_has_no_hash():
    assert Ledger().hash == ""


@given(ids, ids)
def test_what_was_found_since_is_known_from_the_hash_alone(before, after):
    ledger = ledger_of(before)
    earlier = ledger.hash

    new = ledger.add(map(bad, after))

    assert ledger.since(earlier) == new
    assert {sample.id for sample in new} == set(after) - set(before)


def test_what_was_found_since_a_ledger_of_other_samples_is_not_known():
    assert ledger_of([1, 2]).since(ledger_of([3]).hash) is None
    assert ledger_of([1, 2]).since("no hash") is None


def test_a_sample_keeps_the_reason_for_which_it_was_entered():
    ledger = ledger_of([4])

    assert ledger.add([BadSample(4, "4.jpg", "another")]) == []
    assert [sample.reason for sample in ledger] == ["it is empty"]


def test_a_reason_is_one_line_of_bounded_length_that_can_travel():
    sample = BadSample.of(3, "caf\udce9.jpg", f"\n{'x' * 1000}\nsecond line")

    assert "\n" not in sample.reason
    assert len(sample.reason) == MAX_REASON + len("...")
    assert decode(encode(SamplesReplaced(0, [sample]))).samples == [sample]


@pytest.mark.parametrize("kind", [SampleError, SpecMismatch])
def test_an_error_about_a_sample_names_it_and_knows_it(kind):
    error = error_about(3, "3.jpg", "it is empty\nand more", kind)

    assert type(error) is kind
    assert str(error) == "sample 3 (3.jpg): it is empty\nand more"
    assert sample_of(error) == bad(3)
    assert sample_of(DatasetError("no sample's fault")) is sample_of(ValueError()) is None


def test_one_sample_too_many_is_told_with_the_number_the_reasons_and_what_to_do():
    told = str(ledger_of([1, 2, 3, 4]).refuse(bad(9), most=4, samples=1234, where="/state/KEY.json"))

    assert told.startswith(
        "5 of 1,234 samples cannot be made, and no more than 4 may be replaced: sample 9 (9.jpg): it is empty; "
        "sample 1 (1.jpg): it is empty; sample 2 (2.jpg): it is empty; and 2 more. "
    )
    assert "`loader-service check CONFIG --all`" in told
    assert '.on_error("replace", most=' in told
    assert "delete /state/KEY.json" in told
