"""What benchmarks/transforms.py compares is the same work; nothing is timed here."""

import pytest

from benchmarks import transforms
from benchmarks.figures import is_ours


def with_two_samples(step):
    return transforms.Step(step.method, step.options, step.bare, lambda: step.samples()[:2])


@pytest.mark.parametrize("step", transforms.STEPS, ids=lambda step: step.method)
def test_a_step_and_its_bare_call_make_rows_of_one_shape(step, monkeypatch):
    monkeypatch.setattr(transforms, "ROWS", 2)

    ours = transforms.ours(with_two_samples(step))()
    bare = transforms.bare(with_two_samples(step))()

    assert (ours.shape, ours.dtype) == (bare.shape, bare.dtype)
    assert all(row.any() for row in (*ours, *bare))  # each call has written its row


@pytest.mark.parametrize("chain", transforms.CHAINS)
def test_a_chain_and_its_parts_run(chain, monkeypatch):
    monkeypatch.setattr(transforms, "ROWS", 2)
    steps = [with_two_samples(step) for step in transforms.CHAINS[chain]]

    transforms.ours(*steps)()
    transforms.one_by_one(*steps)()


def test_every_case_compares_ours_with_others():
    for case in transforms.CASES:
        assert is_ours(case.arms[0].name)
        assert not any(is_ours(arm.name) for arm in case.arms[1:])
    assert len({case.name for case in transforms.CASES}) == len(transforms.CASES)
