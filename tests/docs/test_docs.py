"""What the README and the docs say is tried, not believed."""

import re
import shlex
import tomllib

import jsonschema
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import loader_client
from loader_service import Dataset, cli
from loader_service.config import Config
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.kinds import AnyFinish, AnySelection, AnySource, AnyTransform, kind_of, models_of
from loader_service.dataset.schema import json_schema
from loader_service.protocol.environment import DEFAULTS, ENVIRONMENT
from tests.docs import run_blocks
from tests.docs.pages import EXAMPLES, PAGES, ROOT

COMMANDS = list(cli.COMMANDS)
INNER = {
    "declaration",
    "from_dict",
    "move",
    "next_before",
    "own",
    "plan",
    "position",
    "roles",
    "rows_of_all",
    "tables",
    "to_dict",
}  # for those who work on loader-service
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
APP = cli.app()
CLI = get_command(APP)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)")


def name_of(path):
    return str(path.relative_to(ROOT)) if path.name == "README.md" else path.name


def public_methods(cls):
    return [name for name in dir(cls) if not name.startswith("_")]


def test_every_example_has_a_row_and_tells_of_its_options():
    rows = (ROOT / "examples" / "README.md").read_text()
    for example in EXAMPLES:
        assert f"\n| [`{example.name}`]({example.name}) |" in rows
        assert "ArgumentParser(description=" in example.read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_pages_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        found = (page.parent / target).resolve()
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_proof_of_a_guarantee_is_there():
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", (ROOT / "docs" / "guarantees.md").read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_lines_to_copy_that_the_command_takes(command):
    told = CliRunner().invoke(APP, [command, "--help"], env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})
    lines = [line.strip() for line in told.output.partition("Examples:")[2].splitlines() if line.strip()]

    assert told.exit_code == 0
    assert lines
    for line in lines:
        program, name, *arguments = shlex.split(line.partition(" > ")[0])
        assert (program, name) == ("loader-service", command)
        CLI.commands[name].make_context(name, arguments)  # raises what a wrong option would


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["scael"], "No such command 'scael'. Did you mean 'scale'"),
        (["start", "--worker", "3"], "No such option: --worker (Possible options: --workers)"),
        (["scale", "many"], "Invalid value for 'N'"),
        (["scale", "0"], "Invalid value for 'N'"),
        (["scale"], "Missing argument 'N'"),
    ],
)
def test_a_misspelt_command_or_option_is_told_with_the_nearest_one(wrong, told):
    ran = CliRunner().invoke(APP, wrong, env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})

    assert ran.exit_code == 2
    assert told in ran.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_each_of_its_options_is_described(command):
    rows = [line for line in CONFIGURATION.splitlines() if line.startswith("|")]
    (row,) = [line for line in rows if re.match(rf"\| `loader-service {command}\b", line)]
    for option in [name for parameter in CLI.commands[command].params for name in parameter.opts if name[:2] == "--"]:
        assert option == "--help" or f"`{option}" in row
        assert any(line.startswith(f"| `{option}`") for line in rows), option


@pytest.mark.parametrize("setting", [*Config.model_fields, *Declaration.model_fields])
def test_every_setting_has_a_row(setting):
    assert f"\n| `{setting}` |" in CONFIGURATION


@pytest.mark.parametrize(
    "kind",
    [kind for union in (AnySource, AnyTransform, AnyFinish, AnySelection) for kind in models_of(union)],
    ids=kind_of,
)
def test_every_kind_of_source_and_step_has_a_row_with_its_options(kind):
    (row,) = re.findall(rf"^\| (?=[^|]*`{kind_of(kind)}`).*$", CONFIGURATION, re.MULTILINE)
    for option in json_schema()["$defs"][kind.__name__]["properties"]:
        assert option == "kind" or f"`{option}`" in row


def environment_variables():
    """Find what the code reads of its environment, and what it sets for workers."""
    found = {*ENVIRONMENT, *DEFAULTS}
    for file in [*(ROOT / "loader_service").rglob("*.py"), *(ROOT / "client").rglob("*.py")]:
        source = file.read_text()
        if file.parent.name != "demo":
            for name in re.findall(r"environ(?:\.\w+\(|\[)([\w\"]+)", source):
                found.add(name.strip('"') if '"' in name else re.search(rf'^{name} = "(\w+)"', source, re.MULTILINE)[1])
    return sorted(found)


@pytest.mark.parametrize("variable", environment_variables())
def test_every_environment_variable_is_described(variable):
    assert re.search(rf"^\|.*`{variable}`", CONFIGURATION, re.MULTILINE)


def test_the_schema_in_the_docs_is_the_one_that_the_command_prints():
    ran = CliRunner().invoke(APP, ["schema"])

    assert ran.output == (ROOT / "docs" / "service.schema.json").read_text(), (
        "run `loader-service schema > docs/service.schema.json`"
    )


@pytest.mark.parametrize(
    "config",
    [code for page in PAGES for language, code in run_blocks.BLOCK.findall(page.read_text()) if language == "toml"],
)
def test_a_config_in_the_docs_is_what_the_schema_allows(config):
    jsonschema.validate(tomllib.loads(config), json_schema())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("workers =", "workes ="),
        ('"1 GiB"', '"1 apple"'),
        ('"auto"', '"many"'),
        ("source =", "sauce ="),
        ('kind = "image_folder", ', ""),
        ('"image_folder"', '"image_foldre"'),
        ("path =", "paht ="),
        ("height =", "hight ="),
        ("seed = 7", "seed = -7"),
        ("size = 32, ", ""),
        ('"drop"', '"dorp"'),
    ],
)
def test_a_mistake_in_a_config_is_none_that_the_schema_allows(right, wrong):
    (config,) = [code for language, code in run_blocks.BLOCK.findall(CONFIGURATION) if language == "toml"]
    assert right in config

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(config.replace(right, wrong)), json_schema())


def test_the_readme_leads_to_every_page():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "error", sorted({*loader_client.__all__} - {"Batch", "Loader", "Ragged", "Stream", "Text", "connect", "wrap"})
)
def test_every_error_is_described(error):
    assert f"## {error}\n" in (ROOT / "docs" / "errors.md").read_text()


@pytest.mark.parametrize("method", sorted({*public_methods(Dataset), *public_methods(loader_client.Stream)} - INNER))
def test_every_public_method_is_described(method):
    pages = "".join(page.read_text() for page in PAGES)

    assert re.search(rf"[.`]{method}\b", pages)
