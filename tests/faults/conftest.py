"""Faults are tried on what users run: real daemons, real workers, real sockets; and nothing is left of them."""

from tests.end_to_end.conftest import _clean, start_daemon, user_module

__all__ = ["_clean", "start_daemon", "user_module"]
