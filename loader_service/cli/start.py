"""`loader-service start`: start a worker pool daemon, in the foreground or detached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from loader_service.cli.options import AddressOption, JsonOption, address_of
from loader_service.config import Settings, load_config, read_settings, write_settings
from loader_service.daemon.serving import configure_logging, serve
from loader_service.dataset.catalog import named_datasets
from loader_service.protocol.address import Address, own_folder
from loader_service.protocol.launch import launch

EXAMPLES = (
    "loader-service start",
    "loader-service start service.toml",
    'loader-service start --workers 4 --memory "4 GiB" --detach',
)


def start(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file: settings, and the datasets to serve by name.", show_default=False)
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help='Worker processes; "auto", the default, leaves one core to the trainer.',
            metavar="N|auto",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help='Shared memory for all slots together, as in "4 GiB". Default: half of what is free.',
            metavar="SIZE",
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is ready; it goes on in the background.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a daemon, and say so when its workers accept tasks. Ctrl-C or `loader-service stop` ends it."""
    settings = _settings(config, workers, memory)
    datasets = named_datasets(config) if config else {}
    where = address_of(address)
    if detach:
        _announce(_start_detached(where, settings, config), as_json=as_json, log=str(where.log))
        return
    configure_logging("INFO")
    serve(where, settings, lambda told: _announce(told, as_json=as_json, log=None), datasets=datasets)


def _settings(config: Path | None, workers: str | None, memory: str | None) -> Settings:
    """Return the config's settings; options of the command line come before them."""
    file = load_config(config) if config else Settings()
    given = {name: getattr(file, name) for name in Settings.model_fields}
    options = {"workers": workers, "memory": memory}
    return read_settings(**given | {name: value for name, value in options.items() if value is not None})


def _start_detached(address: Address, settings: Settings, config: Path | None) -> dict[str, Any]:
    """Start a daemon that goes on without us, its log in a file; return what it says when it is ready."""
    own_folder(address.folder)
    options = write_settings(settings)
    options += [] if config is None else ["--config", str(config.absolute())]
    told: dict[str, Any] = launch(address, options, log=address.log)[1]
    return told


def _announce(told: dict[str, Any], *, as_json: bool, log: str | None) -> None:
    """Print the ready line."""
    if as_json:
        print(json.dumps({**told, "log": log}), flush=True)
        return
    console = Console(highlight=False)
    size = f"{told['memory'] / 2**30:,.1f} GiB"
    line = (
        f"[bold green]ready[/]  {told['address']}  {told['workers']} workers  {size} shared memory  pid {told['pid']}"
    )
    console.print(line + (f"  log {log}" if log else ""), soft_wrap=True)
