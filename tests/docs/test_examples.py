"""The examples are run: in a file of its own, as test_pages.py is."""

import subprocess
import sys

import pytest

from tests.docs import run_examples
from tests.docs.pages import EXAMPLES


@pytest.mark.timeout(700)
def test_every_example_runs(readers_folder, nothing_left, address):
    ran = subprocess.run(
        [sys.executable, run_examples.__file__, *EXAMPLES], capture_output=True, text=True, timeout=690, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
