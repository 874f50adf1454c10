"""A declaration as it might be written: `repr(dataset)`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from loader_service.dataset.declaration import Declaration, Part
from loader_service.dataset.objects import Carried
from loader_service.dataset.sources.arrays import RaggedRef
from loader_service.dataset.user_code import UserCode
from loader_service.protocol.tables import TableRef


def shown(declaration: Declaration) -> str:
    """Return all that is declared, in one line."""
    steps = [_part(declaration), *(_step(step.kind, step) for step in declaration.finish)]
    if declaration.shuffle:
        steps.append(f"shuffle(seed={declaration.shuffle.seed})")
    for name in ("bucket_by_length", "batch", "on_error"):
        if (options := getattr(declaration, name)) is not None:
            steps.append(_step(name, options))
    return " -> ".join(steps)


def written(step: BaseModel) -> str:
    """Return one source or step as it might be written."""
    return _step(getattr(step, "kind", type(step).__name__), step)


def _part(part: Part) -> str:
    steps = [_step(step.kind, step) for step in (part.source, *part.select, *part.transforms)]
    cache = part.cache if isinstance(part, Declaration) else None
    if cache is not None:
        told = _step("cache", cache.model_copy(update={"after": None}))
        steps.insert(1 + len(part.select) + cache.after, told.replace("after=None, ", "").replace("after=None", ""))
    return " -> ".join(steps)


def _step(name: str, options: BaseModel) -> str:
    """Return a step as it might be written: with all options that are not at their defaults."""
    given = {key: value for key, value in options if key != "kind" and value != type(options).model_fields[key].default}
    return f"{name}({', '.join(f'{key}={_value(value)}' for key, value in given.items())})"


def _value(value: Any) -> str:
    if isinstance(value, TableRef):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, RaggedRef):
        return f"rows of {_value(value.values)}"
    if isinstance(value, UserCode | Carried):
        return repr(value.name)
    if isinstance(value, tuple) and any(isinstance(part, Part) for part in value):
        return f"[{', '.join(map(_part, value))}]"
    if isinstance(value, dict) and value.keys() == {"bytes", "offsets"}:  # packed strings
        return f"{value['offsets'].shape[0] - 1:,} names"
    if isinstance(value, tuple) and len(value) > 2 and all(isinstance(part, str) for part in value):
        return f"{len(value):,} names"
    if isinstance(value, dict) and value.keys() == {"numbers", "shapes"}:  # packed arrays
        return f"{value['shapes'].shape[0]:,} arrays of {value['numbers'].dtype}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(part)}' for key, part in value.items())}}}"
    return repr(value)
