"""What the owner of a daemon can set: the command line's options and the TOML file, checked in one place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from loader_service.machine import usable_cores
from loader_service.protocol.errors import ConfigError, nearest
from loader_service.protocol.messages import MOST_WORKERS

UNITS = {
    "": 1,
    "B": 1,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


def parse_size(value: Any) -> Any:
    """Return a size in bytes.

    >>> parse_size("1.5 GiB")
    1610612736
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", value)
    if found is None or found[2].upper() not in UNITS:
        raise ValueError(f'{value!r} is no size: expected a number and a unit, as in "4 GiB" or "500 MB"')
    return int(float(found[1]) * UNITS[found[2].upper()])


Size = Annotated[
    int,
    Field(ge=2**20),
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 2**20},
                {"type": "string", "pattern": r"^\s*[\d.]+\s*([KMGTkmgt][Ii]?)?[Bb]?\s*$"},
            ]
        }
    ),
]


class Settings(BaseModel):
    """How a daemon runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)  # strict: true is no number of workers

    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] | Literal["auto"] = Field(
        "auto", description='Worker processes. "auto": one for each core that may be used, less one for the trainer.'
    )
    memory: Size | None = Field(
        None,
        description='Shared memory for all slots together, as in "4 GiB". Unset: half of what is free at the start.',
    )

    task_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        120.0,
        description="Seconds that a task may take (some rows, or one slow one) before its worker is killed, its stack "
        "logged, and the rows made by another worker. Opening a dataset may take five times as long.",
    )
    worker_memory: Size | None = Field(
        None,
        description='Memory that one worker may take for itself, as in "2 GiB", before another one takes its place, '
        "between tasks: for code that leaks. Unset: as much as it wants.",
    )

    def worker_count(self) -> int:
        """Return the number of workers; "auto" leaves one core to the trainer."""
        return max(1, usable_cores() - 1) if self.workers == "auto" else self.workers


def read_settings(**options: str | float | None) -> Settings:
    """Return the settings that options say, as people write them; None leaves the default.

    Raises:
        ConfigError: Names the option that is wrong, and what was expected.
    """
    given = {name: _number(value) for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0])
        shown = f"--{option.replace('_', '-')} {options[option]!r}"
        raise ConfigError(f"{shown}: expected {EXPECTED[option]}") from None


def write_settings(settings: Settings) -> list[str]:
    """Return the options that `read_settings` reads, for another process's command line."""
    given = settings.model_dump(exclude_none=True, include=set(Settings.model_fields))
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _number(value: str | float) -> str | float:
    """Return a number that was written as text as one."""
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value):
        return float(value)
    return value


class Config(Settings):
    """A config file: the settings, and the datasets that the daemon serves by name."""

    datasets: dict[str, Any] = Field(default_factory=dict)  # plain declarations: see dataset/catalog.py


def load_config(path: Path) -> Config:
    """Read a TOML file.

    Raises:
        ConfigError: If it is not there, is no TOML, or has a key that there is not; names the nearest one.
    """
    try:
        plain = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {str(path)!r} is no TOML: {error}") from error
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        key = first["loc"][0]
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"config {str(path)!r}: there is no key {key!r}; {nearest(str(key), KEYS)}") from None
        expected = EXPECTED[str(key)]
        raise ConfigError(f"config {str(path)!r}: {key} is {first['input']!r}, expected {expected}") from None


EXPECTED = {
    "workers": 'a number from 1 to 4096, or "auto"',
    "memory": 'a size of at least 1 MiB, as in "4 GiB"',
    "task_timeout": "a number of seconds, more than 0",
    "worker_memory": 'a size of at least 1 MiB, as in "2 GiB"',
    "datasets": "a table for each dataset",
}
KEYS = list(Config.model_fields)
