"""What the README and the docs say is tried, not believed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import loader_client
from loader_service import Dataset
from loader_service.cli import app
from tests.docs import run_blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMMANDS = [command.name for command in app.registered_commands]
INNER = {
    "broken_off",
    "declaration",
    "from_dict",
    "move",
    "plan",
    "roles",
    "tables",
    "to_dict",
}  # for those who work on loader-service
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)")


def name_of(path):
    return path.name


def public_methods(cls):
    return [name for name in vars(cls) if not name.startswith("_")]


@pytest.mark.parametrize("page", [page for page in PAGES if run_blocks.BLOCK.search(page.read_text())], ids=name_of)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, readers_folder, nothing_left, address):
    ran = subprocess.run(
        [sys.executable, run_blocks.__file__, page], capture_output=True, text=True, timeout=110, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_runs(example, readers_folder, nothing_left, address):
    arguments = re.search(rf"^    python examples/{example.name}(.*)$", example.read_text(), re.MULTILINE)[1].split()

    ran = subprocess.run(
        [sys.executable, example, *arguments], capture_output=True, text=True, timeout=110, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_pages_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        found = (page.parent / target).resolve()
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_a_line_to_copy(command):
    told = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})

    assert told.exit_code == 0
    assert f"Example:  loader-service {command}" in told.output


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_every_command_is_described(command):
    assert f"loader-service {command}" in (ROOT / "docs" / "daemon.md").read_text()


@pytest.mark.parametrize(
    "error", [name for name in loader_client.__all__ if name not in ("Batch", "Loader", "Stream", "connect")]
)
def test_every_error_is_described(error):
    assert f"## {error}\n" in (ROOT / "docs" / "errors.md").read_text()


@pytest.mark.parametrize("method", sorted({*public_methods(Dataset), *public_methods(loader_client.Stream)} - INNER))
def test_every_public_method_is_described(method):
    pages = "".join(page.read_text() for page in PAGES)

    assert re.search(rf"[.`]{method}\b", pages)
