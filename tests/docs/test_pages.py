"""The code of the docs is run. It takes long: in a file of its own, it runs beside the tests of others."""

import subprocess
import sys

import pytest

from tests.docs import run_blocks
from tests.docs.pages import PAGES


@pytest.mark.timeout(700)
def test_the_code_of_every_page_runs_from_top_to_bottom(readers_folder, nothing_left, address):
    pages = [page for page in PAGES if run_blocks.BLOCK.search(page.read_text())]
    ran = subprocess.run(
        [sys.executable, run_blocks.__file__, *pages], capture_output=True, text=True, timeout=690, check=False
    )
    print(ran.stdout)  # what took how long

    assert ran.returncode == 0, ran.stdout + ran.stderr
