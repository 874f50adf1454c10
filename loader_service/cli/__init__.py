"""`loader-service`: the commands that people type, one file for each.

Results go to stdout, everything else to stderr. Exit status: 0 all is well, 1 it failed, 2 it was called wrongly,
3 no daemon answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console

from loader_service import __version__
from loader_service.protocol.environment import environment_of_workers, is_environment_of_workers
from loader_service.protocol.errors import ConfigError, LoaderError, NoDaemon

COMMANDS = (
    "start",
    "status",
    "scale",
    "stop",
    "check",
    "explain",
    "preview",
    "stats",
    "pack",
    "cache",
    "schema",
    "demo",
)


def app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the program with these commands: what the others import takes most of a second."""
    program = typer.Typer(
        name="loader-service",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    program.callback()(_options)
    for name in names:
        module = import_module(f"loader_service.cli.{name}")
        program.command(name=name, epilog="\n\n".join(["Examples:", *module.EXAMPLES]))(getattr(module, name))
    return program


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Load, decode and augment training data in worker processes; hand batches to Keras through shared memory."""


def main() -> None:
    """Run one command; errors of ours are a sentence on stderr, not a traceback."""
    named = sys.argv[1:2]
    if named == ["start"] and not is_environment_of_workers():
        # What is loaded from here on is what workers are forked from: begin again as they need it.
        os.execve(sys.executable, sys.orig_argv, environment_of_workers())
    try:
        app(named if set(named) & set(COMMANDS) else COMMANDS)()
    except NoDaemon as error:
        _tell(error)
        sys.exit(3)
    except ConfigError as error:
        _tell(error)
        sys.exit(2)
    except LoaderError as error:
        _tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(error: LoaderError) -> None:
    console = Console(stderr=True)
    console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
    console.print(str(error), markup=False, highlight=False, soft_wrap=True)
    for note in getattr(error, "__notes__", []):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
