"""A disk that fails, for real: no file of this process can grow."""

import resource

import pytest


@pytest.fixture
def full_disk():
    """Return a function after whose call no file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(nbytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
