"""`loader-service schema`: what a config file may hold, as a JSON schema for editors."""

from __future__ import annotations

import json

from loader_service.dataset.schema import json_schema

EXAMPLES = ("loader-service schema > service.schema.json",)


def schema() -> None:
    """Print the JSON schema of a config file: with it, editors complete keys and mark mistakes in service.toml."""
    print(json.dumps(json_schema(), indent=2))
