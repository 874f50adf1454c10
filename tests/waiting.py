"""How tests wait for what happens in other processes: they look again and again, and give up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 20.0  # seconds


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE, what: str = "it") -> float:
    """Wait for a condition. Return the seconds that it took; fail if it does not come about."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what} did not come about in {seconds:g} s"
        time.sleep(0.005)
    return time.monotonic() - began
