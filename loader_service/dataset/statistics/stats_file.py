"""The file of statistics: TOML, since people read it, and edit it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loader_service.dataset.statistics.stats import Stats
from loader_service.protocol.errors import DatasetError

VERSION = 1
HEAD = """\
# Statistics of a dataset, as `loader-service stats` counted them.
# For .normalize(stats="THIS FILE"), and stream.keras(class_weight=Stats.load("THIS FILE").balanced()).
"""
ESCAPES = {'"': '\\"', "\\": "\\\\"}


def save(stats: Stats, path: str | os.PathLike[str]) -> None:
    """Write statistics.

    Raises:
        DatasetError: If the file cannot be written.
    """
    told = HEAD + "\n".join(_table({"version": VERSION, **stats.to_plain()}, ())) + "\n"
    try:
        Path(path).write_text(told, encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"statistics: {str(path)!r} cannot be written: {error.strerror}") from error


def load(path: str | os.PathLike[str]) -> Stats:
    """Read statistics.

    Raises:
        DatasetError: If the file cannot be read, or holds something else; names the key that is wrong.
    """
    name = f"statistics {str(path)!r}"
    try:
        plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{name} is no TOML: {error}") from error
    version = plain.pop("version", None)
    if version != VERSION:
        what = "has no version" if version is None else f"is of version {version!r}"
        raise DatasetError(
            f"{name} {what}, expected {VERSION}: write it with `loader-service stats DATASET -o FILE`, or Stats.save"
        )
    try:
        return _ADAPTER.validate_python({**plain, "origin": name})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{name}: {where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Write a table: its own values, then the tables within, each under its whole name."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    own = {key: value for key, value in table.items() if key not in inner and value is not None}
    if path and (own or not inner):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for key, value in own.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        if value:
            yield from _table(value, (*path, str(key)))


def _key(key: Any) -> str:
    return str(key) if re.fullmatch(r"[A-Za-z0-9_-]+", str(key)) else _value(str(key))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)  # of an int, or a float: nan and inf are TOML's words, too


def _character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    return f"\\u{ord(character):04x}" if ord(character) < 32 or ord(character) == 127 else character


_ADAPTER = TypeAdapter(Stats)
