"""How a command names one dataset: a config and a name in it, or "module:attribute"."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loader_service.config import Settings, load_config
from loader_service.dataset.catalog import named_datasets
from loader_service.dataset.dataset import Dataset
from loader_service.dataset.user_code import NAME, UserCode, explained
from loader_service.protocol.errors import ConfigError, nearest

DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help='TOML file with the dataset; or "module:attribute" of a Dataset, or of a function that returns one.',
        show_default=False,
    ),
]
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The dataset of the file, if it has several.", show_default=False)
]


def named_dataset(where: str, name: str | None) -> tuple[str, Dataset, Settings]:
    """Return what a dataset is called, the dataset, and the settings that stand beside it.

    Raises:
        ConfigError: If there is no such dataset, or it is not said which of several.
        DatasetError: If the user's module cannot be imported.
    """
    if re.match(NAME, where) and not Path(where).exists():
        if name is not None:
            raise ConfigError(f"{where!r} is one dataset, so no name is expected behind it, got {name!r}")
        return where, _imported(where), Settings()
    datasets = named_datasets(Path(where))
    if name is None:
        if len(datasets) != 1:
            names = ", ".join(map(repr, sorted(datasets)))
            told = f"it has several datasets, say which is meant: {names}" if datasets else "it names no datasets"
            raise ConfigError(f"config {where!r}: {told}")
        (name,) = datasets
    if name not in datasets:
        raise ConfigError(f"config {where!r}: there is no dataset {name!r}; {nearest(name, datasets)}")
    return name, Dataset(datasets[name]), load_config(Path(where))


@contextlib.contextmanager
def at_work(told: str) -> Iterator[None]:
    """Show that something is going on; users' functions print to stderr, and their errors are told as ours."""
    with Console(stderr=True).status(told), contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except Exception as error:
            raise explained(error) from error


def _imported(where: str) -> Dataset:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` would have it: the script's folder is none of the user's
    with contextlib.redirect_stdout(sys.stderr):  # the user's module may print
        found = UserCode.of(where).load()
        if callable(found) and not isinstance(found, Dataset):
            try:
                found = found()
            except Exception as error:
                raise explained(error) from error
    if not isinstance(found, Dataset):
        raise ConfigError(f"{where!r} is {type(found).__name__}, expected a Dataset, or a function that returns one")
    return found
