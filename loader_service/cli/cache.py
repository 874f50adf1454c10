"""`loader-service cache`: which samples are kept on the disk; are they sound; delete them."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loader_service.cli.options import JsonOption
from loader_service.cli.progress import counting
from loader_service.dataset.cache.folder import (
    caches_folder,
    caches_in,
    clear,
    memory_folder,
    read_about,
    size_of,
)
from loader_service.dataset.cache.store import DATA, SampleStore
from loader_service.protocol.errors import ConfigError, DatasetError, nearest

EXAMPLES = (
    "loader-service cache list",
    "loader-service cache verify",
    "loader-service cache clear 1f3a92c07d5e4b68a1b2c3d4e5f60718",
    "loader-service cache clear --all --path /mnt/fast/cache",
)


class Action(StrEnum):
    """What is done with caches."""

    LIST = "list"
    VERIFY = "verify"
    CLEAR = "clear"


def cache(
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of caches; all of them, to list and verify.", metavar="[NAME]...")
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--path", help="Folder in which they lie, as in .cache(path=...). Unset: yours, and memory."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Clear all of them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the caches of samples that datasets have made, compare every checksum, or delete them.

    Samples that are found to be damaged are taken out, and made again when they are wanted. Exit status 1 if there
    were any.
    """
    roots = [caches_folder(), memory_folder()] if path is None else [path]
    if path is not None and not path.is_dir():
        raise ConfigError(f"--path {str(path)!r} is no folder")
    folders = _chosen(roots, names or [])
    console = Console(highlight=False)
    if action is Action.CLEAR:
        if not names and not every:
            raise ConfigError(
                "clear deletes what is named, or with --all every cache: `loader-service cache list` has the names"
            )
        for folder in folders:
            clear(folder)
        if as_json:
            print(json.dumps({"cleared": [folder.name for folder in folders]}))
        else:
            console.print(f"{len(folders)} caches are deleted")
        return
    found = _verify(folders) if action is Action.VERIFY else {folder.name: _told(folder) for folder in folders}
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, roots, console)
    if any(told.get("damaged") or "error" in told for told in found.values()):
        raise typer.Exit(1)


def _chosen(roots: list[Path], names: list[str]) -> list[Path]:
    folders = [folder for root in roots for folder in caches_in(root)]
    known = {folder.name for folder in folders}
    for name in names:
        if name not in known:
            where = " or ".join(map(repr, map(str, roots)))
            raise ConfigError(f"there is no cache {name!r} in {where}; {nearest(name, known)}")
    return [folder for folder in folders if not names or folder.name in names]


def _told(folder: Path) -> dict[str, Any]:
    """Return what a cache is, and how much it holds."""
    try:
        about, size = read_about(folder), size_of(folder)
    except DatasetError as error:
        return {"error": str(error)}
    source = about.get("source", {})
    return {
        "source": source.get("kind", ""),
        "path": source.get("path") or "",
        "steps": about.get("steps", ""),
        "samples": size.samples,
        "of": size.of,
        "nbytes": size.nbytes,
        "last_written": (folder / DATA).stat().st_mtime,
    }


def _verify(folders: list[Path]) -> dict[str, dict[str, Any]]:
    """Compare the checksum of every sample; take out those that are damaged."""
    found: dict[str, dict[str, Any]] = {}
    with counting() as progress:
        for folder in folders:
            told = found[folder.name] = _told(folder)
            if "error" in told:
                continue
            bar = progress.add_task(folder.name, total=told["of"])
            store = SampleStore(folder, told["of"], most=0)
            told["damaged"] = 0
            for sample_id in range(told["of"]):
                if store.is_there(sample_id) and store.find(sample_id) is None:
                    store.forget(sample_id)
                    told["damaged"] += 1
                progress.advance(bar)
            store.close()
    return found


def _show(found: dict[str, dict[str, Any]], roots: list[Path], console: Console) -> None:
    where = escape(" and ".join(map(str, roots)))
    if not found:
        console.print(f"there are no caches in {where}")
        return
    table = Table()
    table.add_column("cache", overflow="fold")  # its name is what `clear` takes
    for heading in ("samples", "size", "of", "last written"):
        table.add_column(heading)
    for name, told in found.items():
        if "error" in told:
            table.add_row(name, "[bold red]wrong[/]", "", escape(told["error"]), "")
            continue
        damaged = f"\n[bold red]{told['damaged']:,} damaged[/]" if told.get("damaged") else ""
        what = f"{told['source']} {told['path']}\nafter {told['steps']}"
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["last_written"]))
        size = f"{told['nbytes'] / 2**20:,.1f} MiB"
        table.add_row(name, f"{told['samples']:,} of {told['of']:,}{damaged}", size, escape(what), when)
    console.print(table)
    console.print(f"in {where}")
