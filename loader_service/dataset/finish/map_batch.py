"""A user's own function on whole batches: a dict of arrays in, a dict of arrays out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from loader_service.dataset.finish.step import Finish, Room
from loader_service.dataset.transforms.map import UserFunction
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.ragged import Ragged
from loader_service.protocol.spec import FieldSpec, Spec


class MapBatch(UserFunction, Finish):
    """Call a function on every batch."""

    kind: Literal["map_batch"] = "map_batch"

    def declare(self, spec: Spec) -> dict[str, FieldSpec]:
        """Refuse: what a user's function returns is found by running it (finisher.py)."""
        raise DatasetError("map_batch: the spec is known only from a first batch")

    def apply(self, fields: dict[str, Any], room: Room, key: int, position: int) -> dict[str, Any]:
        """Call the function on one batch; it may change what it is given."""
        given = {name: value if isinstance(value, Ragged) else np.array(value) for name, value in fields.items()}
        return self.call(given, key, position)
