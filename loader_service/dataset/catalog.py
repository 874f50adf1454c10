"""The datasets that a config names: plain data -> declarations, with paths and modules found beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loader_service.config import load_config
from loader_service.dataset.declaration import Declaration
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.transforms.values import Normalize
from loader_service.protocol.errors import ConfigError, DatasetError

IN_MEMORY = {  # what a source is given as lists, which a file does not hold
    "npy_files": {"ids", "labels"},
    "files": {"paths", "labels", "classes", "root"},
}


def named_datasets(config: Path) -> dict[str, Declaration]:
    """Return the datasets of a config file.

    Raises:
        ConfigError: If something is wrong with it.
    """
    return declare_all(load_config(config).datasets, config)


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
    for steps in ("transforms", "finish", "select"):
        if isinstance(found.get(steps), list):
            found[steps] = [_absolute_step(step, base) for step in found[steps]]
    if isinstance(found.get("cache"), dict) and "path" in found["cache"]:
        found["cache"] = {**found["cache"], "path": _absolute(found["cache"]["path"], base)}
    return found


def _absolute_source(source: dict[str, Any], base: Path) -> dict[str, Any]:
    kind = str(source.get("kind"))
    in_memory = IN_MEMORY.get(kind, set()) & source.keys()
    if in_memory:
        raise DatasetError(
            f"source.{kind}: {' and '.join(sorted(in_memory))} cannot stand in a file, which serves the whole "
            f"folder: give Dataset.from_{kind} to loader.stream instead"
        )
    changed: dict[str, Any] = {}
    for name in ("path", "root", "x", "y", "lengths", "fields"):
        if source.get(name) is not None:
            changed[name] = _absolute(source[name], base)
    for option in ("attr", "function"):
        if isinstance(source.get(option), str):
            changed[option] = _user_code(source[option], base)
    if isinstance(source.get("parts"), list):
        changed["parts"] = [_beside(part, base) if isinstance(part, dict) else part for part in source["parts"]]
    return changed


def _absolute_step(step: Any, base: Path) -> Any:
    if isinstance(step, dict) and isinstance(step.get("function"), str):
        return {**step, "function": _user_code(step["function"], base)}
    if isinstance(step, dict) and isinstance(step.get("weights"), str):
        return {**step, "weights": _absolute(step["weights"], base)}
    if isinstance(step, dict) and step.get("kind") == "cache" and "path" in step:
        return {**step, "path": _absolute(step["path"], base)}
    if isinstance(step, dict) and step.get("kind") == "normalize" and isinstance(step.get("stats"), str):
        return _with_scale(step, base)
    return step


def _with_scale(step: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return a step with the mean and std that its file of statistics has for its field."""
    twice = {"mean", "std"} & step.keys()
    if twice:
        raise DatasetError(f"normalize: {' and '.join(sorted(twice))} come from stats: give either")
    field = step.get("field", Normalize.model_fields["field"].default)
    mean, std = Stats.load(_absolute(step["stats"], base)).scale_of(field)
    return {**{name: value for name, value in step.items() if name != "stats"}, "mean": mean, "std": std}


def _absolute(where: Any, base: Path) -> Any:
    """Return a path, or each of a list or table of them, as an absolute one; what is none of these is refused later."""
    if isinstance(where, dict):
        return {name: _absolute(part, base) for name, part in where.items()}
    if isinstance(where, list):
        return [_absolute(part, base) for part in where]
    return str((base / Path(where).expanduser()).absolute()) if isinstance(where, str) else where


def _user_code(name: str, base: Path) -> dict[str, Any]:
    """Look for the module beside the config first; else it must be on the workers' path."""
    module = Path(base, *name.partition(":")[0].split("."))
    beside = module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()
    return {"name": name, "root": str(base.absolute()) if beside else None}
