"""`loader-service pack`: many small files into one that is mapped; check such a pack, and tell what is in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loader_service.cli.naming import named_dataset
from loader_service.cli.options import JsonOption
from loader_service.dataset.dataset import Dataset
from loader_service.dataset.packing.checking import Damage, Told, find_damage
from loader_service.dataset.packing.folder import source_of
from loader_service.dataset.packing.format import OpenPack
from loader_service.protocol.errors import ConfigError

EXAMPLES = (
    "loader-service pack photos/train -o train.pack",
    "loader-service pack volumes -o volumes.pack --json",
    "loader-service pack service.toml flowers -o flowers.pack --decode",
    "loader-service pack --info train.pack",
    "loader-service pack --verify train.pack",
)


def pack(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of class folders with pictures, of pictures, or of .npy files; a TOML file with datasets; "
            '"module:attribute" of a Dataset; or, with --info and --verify, a pack.',
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(help="The dataset of the TOML file, if it has several.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The pack.", metavar="FILE", show_default=False)
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Keep arrays that need no decoding any more, not the bytes of the files.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that exists; begin anew where the source has changed.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read all of a pack, and name what is damaged.")] = False,
    info: Annotated[bool, typer.Option("--info", help="Tell what is in a pack.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack all samples of a folder, or of a dataset, into one file, for Dataset.from_pack.

    If it is interrupted, the same command goes on. Exit status 0 if the pack is whole, 1 if it is not, 2 if the
    command is wrong.
    """
    if verify or info:
        if name is not None or output is not None or decode or force:
            raise ConfigError("--verify and --info look at a pack, and make none: leave all but its path out")
        told = _verify(source) if verify else {}
        told = {**_info(source), **told}
    elif output is None:
        raise ConfigError("where does the pack go? Add -o FILE, for example -o train.pack")
    else:
        told = _pack(_dataset(source, name), output, decode=decode, force=force)
    if as_json:
        print(json.dumps(told))
    else:
        _show(told, Console(highlight=False))
    if told.get("damaged"):
        raise typer.Exit(1)


def _dataset(source: Path, name: str | None) -> Dataset:
    """Return what is to be packed: a folder's files, or a dataset that is named as for other commands."""
    if source.is_dir() or (source.suffix != ".toml" and ":" not in str(source)):
        if name is not None:
            raise ConfigError(f"{name!r} would be a dataset of a TOML file, and {str(source)!r} is none")
        return source_of(source)
    return named_dataset(str(source), name)[1]


def _pack(dataset: Dataset, output: Path, *, decode: bool, force: bool) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        with _bar(f"packing into {output}") as told:
            packed = dataset.pack(output, decode=decode, force=force, told=told)
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print("interrupted: the same command goes on from here", markup=False)
        raise
    return {
        **_info(output),
        "files": packed.files,
        "resumed": packed.resumed,
        "read": packed.read,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _verify(path: Path) -> dict[str, Any]:
    began = time.perf_counter()
    with _bar(f"reading {path}") as told:
        damaged = find_damage(str(path), told)
    return {
        "damaged": [asdict(damage) for damage in damaged],
        "seconds": round(time.perf_counter() - began, 3),
    }


def _info(path: Path) -> dict[str, Any]:
    opened = OpenPack(str(path))
    opened.check_index()
    said = opened.description
    return {
        "pack": str(path),
        "content": opened.content.hex(),
        "samples": said.samples,
        "bytes": opened.stat.st_size,
        "fields": opened.describe_fields(),
        "class_names": list(said.class_names),
        "decoded": said.decoded,
        "source": said.source,
    }


@contextmanager
def _bar(what: str) -> Iterator[Told]:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _show(told: dict[str, Any], console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if "read" in told:
        took = f"read {decimal(told['read'])} of {told['files']:,} files in {told['seconds']:.2f} s"
        before = f", {told['resumed']:,} of them before" if told["resumed"] else ""
        say(f"{took}{before}; all of the pack was read back")
    say(f"{told['pack']}: {told['samples']:,} samples, {decimal(told['bytes'])}")
    for field, what in told["fields"].items():
        say(f"  {field}: {what}")
    if told["class_names"]:
        shown = ", ".join(told["class_names"][:10])
        say(f"  {len(told['class_names']):,} classes: {shown}{', ...' if len(told['class_names']) > 10 else ''}")
    say(f"  packed from {told['source']['kind']} {told['source'].get('path', '')}".rstrip())
    if "damaged" in told:
        for damage in told["damaged"]:
            say(str(Damage(**damage)))
        bad = len(told["damaged"])
        say(f"{bad:,} damaged: pack it again, or copy it again" if bad else f"sound: read in {told['seconds']:.2f} s")
