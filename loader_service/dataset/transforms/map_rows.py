"""A user's own function on many samples at once: arrays with one row for each sample, in and out.

How many rows it is given is nothing that a batch may depend on: it is whatever a worker has to make next. So random
numbers come from `RowNumbers`, which has numbers of its own for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import mix, stream_key, unit
from loader_service.dataset.purity import same
from loader_service.dataset.transforms.map import SampleFunction, writable
from loader_service.dataset.transforms.quality.noise import normals_of
from loader_service.dataset.transforms.transform import Sample
from loader_service.protocol.errors import DatasetError, SpecMismatch
from loader_service.protocol.spec import Spec

Shape = int | tuple[int, ...]


class RowNumbers:
    """Random numbers for many rows at once: an array has one row for each, which depends on that sample alone."""

    def __init__(self, key: int, positions: NDArray[np.int64]) -> None:
        self._key, self._positions = key, positions
        self._calls = 0

    def random(self, shape: Shape = ()) -> NDArray[np.float64]:
        """Return numbers in [0, 1), of shape (rows, *shape)."""
        bits, shape = self._bits(shape)
        return unit(bits).reshape(shape)

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: Shape = ()) -> NDArray[np.float64]:
        """Return numbers in [low, high), of shape (rows, *shape)."""
        return low + (high - low) * self.random(shape)

    def normal(self, mean: float = 0.0, std: float = 1.0, shape: Shape = ()) -> NDArray[np.float64]:
        """Return normal numbers, of shape (rows, *shape)."""
        bits, shape = self._bits(shape)
        return mean + std * normals_of(bits >> np.uint64(48)).astype(np.float64).reshape(shape)

    def integers(self, low: int, high: int, shape: Shape = ()) -> NDArray[np.int64]:
        """Return whole numbers from low to high - 1, of shape (rows, *shape)."""
        if low >= high:
            raise ValueError(f"integers: {low} .. {high - 1} is empty: expected low < high")
        return low + (self.random(shape) * (high - low)).astype(np.int64)

    def _bits(self, shape: Shape) -> tuple[NDArray[np.uint64], tuple[int, ...]]:
        """Return 64 bits for each number, and the shape that they are to have; each call has others."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count = int(np.prod(shape, dtype=np.int64))
        self._calls += 1
        keys = mix(self._positions.astype(np.uint64), stream_key("rows", self._key, self._calls))
        return mix(np.arange(1, count + 1, dtype=np.uint64), keys[:, None]), (len(self._positions), *shape)


class MapRows(SampleFunction):
    """Call a function on many samples at once."""

    kind: Literal["map_rows"] = "map_rows"

    def apply(self, sample: Sample, key: int, position: int) -> Sample:
        """Call the function on one sample, as on rows of which there is one."""
        rows = {name: np.asarray(value)[None] for name, value in sample.items()}
        made = self.apply_rows(rows, key, np.asarray([position], np.int64))
        return {name: value[0] for name, value in made.items()}

    def apply_rows(self, rows: Mapping[str, np.ndarray], key: int, positions: NDArray[np.int64]) -> dict[str, Any]:
        """Call the function on many samples."""
        given = {name: writable(value) for name, value in rows.items()}
        made = self.call(given, key, int(positions[0]), RowNumbers(key, positions))
        for name, value in made.items():
            if value.ndim == 0 or len(value) != len(positions):
                raise DatasetError(
                    f"{self.name} returned {value.shape} in field {name!r} for {len(positions)} rows: expected one "
                    "entry for each"
                )
        return made

    def makes_rows_alike(self, samples: Sequence[Sample], key: int) -> bool:
        """Whether it makes the same rows of samples that are given together, and one by one."""
        positions = np.arange(len(samples))
        rows = {name: np.stack([np.asarray(sample[name]) for sample in samples]) for name in samples[0]}
        together = self.apply_rows({name: value.copy() for name, value in rows.items()}, key, positions)
        for row in range(len(samples)):
            some = slice(row, row + 1)
            alone = self.apply_rows({name: value[some].copy() for name, value in rows.items()}, key, positions[some])
            if not same({name: value[some] for name, value in together.items()}, alone):
                return False
        return True

    def refuse_other_rows(self, rows: Mapping[str, np.ndarray], spec: Spec) -> None:
        """See to it that all rows come back with the fields, dtypes and shapes of the first sample.

        Raises:
            SpecMismatch: If they do not.
        """
        self.refuse_others(rows, spec)
        for name, field in spec.items():
            if field.form == "dense" and rows[name].shape[1:] != field.shape:
                raise SpecMismatch(
                    f"{self.name} returned rows of shape {rows[name].shape[1:]} in field {name!r}, and {field.shape} "
                    "of the first sample: all rows must be alike"
                )
