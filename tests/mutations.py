"""Seeded mistakes in the rules, each of which a state machine must find: a check that cannot fail checks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SEARCH = settings(
    max_examples=1000,
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # that it is found is enough: nobody reads the shortest history
    suppress_health_check=list(HealthCheck),
)


def assert_found(
    machine: type[RuleBasedStateMachine], rules: type[Any], mistake: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Make a mistake in a class of rules, and fail unless the machine that tests it does."""
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        try:
            run_state_machine_as_test(machine, settings=SEARCH)
        except (Exception, pytest.fail.Exception):  # an invariant's, or of a rule that stumbles over what it is told
            return
    pytest.fail(f"no history of {machine.__name__} shows what is wrong with {rules.__name__}")
