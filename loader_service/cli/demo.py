"""`loader-service demo`: placeholder until written."""

from __future__ import annotations

EXAMPLE = "loader-service demo"


def demo() -> None:
    """Train a small model twice, fed by loader-service and by Keras' own loader, and compare."""
    raise NotImplementedError
