"""What commands that look at the datasets of a config share: which of them are meant, and how one is opened."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loader_service.daemon.__main__ import named_datasets
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.user_code import explained
from loader_service.protocol.errors import ConfigError, nearest

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file with the datasets.", show_default=False)]
NameArgument = Annotated[
    str | None, typer.Argument(help="The dataset; needed where the file has several.", show_default=False)
]


def chosen(config: Path, name: str | None) -> tuple[str, Declaration]:
    """Return the dataset of a config that is meant, with its name.

    Raises:
        ConfigError: If there is none of that name, or it is not said which.
    """
    datasets = named_datasets(config)
    if name is None:
        if len(datasets) != 1:
            names = ", ".join(map(repr, sorted(datasets)))
            told = f"it has several datasets, say which is meant: {names}" if datasets else "it names no datasets"
            raise ConfigError(f"config {str(config)!r}: {told}")
        name = next(iter(datasets))
    if name not in datasets:
        raise ConfigError(f"config {str(config)!r}: there is no dataset {name!r}; {nearest(name, datasets)}")
    return name, datasets[name]


@contextlib.contextmanager
def at_work(told: str) -> Iterator[None]:
    """Show that something is going on; users' functions print to stderr, and their errors are told as ours."""
    with Console(stderr=True).status(told), contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except Exception as error:
            raise explained(error) from error
