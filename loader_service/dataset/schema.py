"""The JSON schema of a config file, for editors: made of the classes that read the file, it cannot lag behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loader_service.config import Config, Size
from loader_service.dataset.declaration import Batch, Declaration
from loader_service.dataset.kinds import AnyTransform


class CacheHere(BaseModel):
    """Keep what the steps before this one make of each sample: for further epochs, runs and trainers."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["cache"] = "cache"
    most: Size | None = Field(None, description='Bytes that it may take, as in "20 GiB".')
    path: str | None = Field(None, description="Folder in which it lies; relative to the config.")


class NamedDataset(Declaration):
    """A dataset that clients ask for by name: what the chained methods of `Dataset` do, under the same names."""

    transforms: tuple[AnyTransform | CacheHere, ...] = ()  # type: ignore[assignment]  # as a file has it
    batch: Batch | None = None  # a source of whole batches has none


class ServiceFile(Config):
    """service.toml: how a daemon runs, and the datasets that it serves by name."""

    datasets: dict[str, NamedDataset] = Field({}, description="A table for each dataset that is served by name.")


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole file, in the dialect 2020-12."""
    made = ServiceFile.model_json_schema()
    for table in made["$defs"].values():
        if "kind" in table.get("properties", {}):  # it says which of several tables this one is
            table["required"] = ["kind", *table.get("required", [])]
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_nulls(made)}
    made["title"] = "service.toml"
    return made


def _without_nulls(schema: Any) -> Any:
    """Return a schema without null, which TOML does not have, and without titles that only repeat a name."""
    if isinstance(schema, list):
        return [_without_nulls(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_nulls(part)
        for key, part in schema.items()
        if not (key == "title" and isinstance(part, str)) and not (key == "default" and part is None)
    }
    choices = kept.pop("anyOf", None)
    if len(kept.get("oneOf", ())) == 1:
        kept.update(kept.pop("oneOf")[0])  # the other one cannot stand in a file
    if choices is not None:
        choices = [choice for choice in choices if choice != {"type": "null"}]
        kept.update({"anyOf": choices} if len(choices) > 1 else choices[0])
    return kept
