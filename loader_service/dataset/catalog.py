"""The datasets that a config names: plain data -> declarations, with paths and modules found beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loader_service.dataset.declaration import Declaration
from loader_service.protocol.errors import ConfigError, DatasetError


def declare_all(datasets: Mapping[str, Any], config: Path) -> dict[str, Declaration]:
    """Return the declaration of each dataset of a config; relative paths are relative to the folder of that file.

    Raises:
        ConfigError: Names the dataset and the key that is wrong.
    """
    base = config.absolute().parent
    declared = {}
    for name, plain in datasets.items():
        try:
            if not isinstance(plain, dict):
                raise DatasetError(f"expected a table with a source, got {plain!r}")
            declared[name] = Declaration.from_plain(_beside(plain, base))
            if declared[name].batch is None and not declared[name].source.whole:
                raise DatasetError("batch is missing, for example batch = { size = 64 }")
        except DatasetError as error:
            raise ConfigError(f"config {str(config)!r}: datasets.{name}: {error}") from error
    return declared


def _beside(plain: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return plain data in which every path is absolute, and every import path names the folder of its module."""
    found = dict(plain)
    source = found.get("source")
    if isinstance(source, dict):
        found["source"] = {**source, **_absolute_source(source, base)}
    steps = found.get("transforms")
    if isinstance(steps, list):
        found["transforms"] = [_absolute_step(step, base) for step in steps]
    return found


def _absolute_source(source: dict[str, Any], base: Path) -> dict[str, Any]:
    in_memory = {"ids", "labels"} & source.keys() if source.get("kind") == "npy_files" else set()
    if in_memory:
        raise DatasetError(
            f"source.npy_files: {' and '.join(sorted(in_memory))} cannot stand in a file, which serves the whole "
            "folder: give Dataset.from_npy_files to loader.stream instead"
        )
    changed: dict[str, Any] = {}
    if isinstance(source.get("path"), str):
        changed["path"] = _absolute(source["path"], base)
    if isinstance(source.get("fields"), dict):
        changed["fields"] = {
            name: _absolute(where, base) if isinstance(where, str) else where
            for name, where in source["fields"].items()
        }
    for option in ("attr", "function"):
        if isinstance(source.get(option), str):
            changed[option] = _user_code(source[option], base)
    return changed


def _absolute_step(step: Any, base: Path) -> Any:
    if isinstance(step, dict) and isinstance(step.get("function"), str):
        return {**step, "function": _user_code(step["function"], base)}
    return step


def _absolute(path: str, base: Path) -> str:
    return str((base / Path(path).expanduser()).absolute())


def _user_code(name: str, base: Path) -> dict[str, Any]:
    """Look for the module beside the config first; else it must be on the workers' path."""
    module = Path(base, *name.partition(":")[0].split("."))
    beside = module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()
    return {"name": name, "root": str(base.absolute()) if beside else None}
