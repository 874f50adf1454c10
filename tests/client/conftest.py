"""A disk that fails, for real: no file of this process can grow."""

import contextlib
import resource

import pytest


@pytest.fixture
def full_disk():
    """Return a context in which no file of this process can grow beyond so many bytes: pytest's own neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextlib.contextmanager
    def full(nbytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full
