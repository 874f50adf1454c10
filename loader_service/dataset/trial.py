"""The first sample of a source, to try a chain's steps with: what it is after each, and whether user code is pure.

Steps are done one by one here, the plain way, which whatever is fused or done to many rows at once must equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loader_service.dataset.draws import DrawKeys
from loader_service.dataset.fusing import Group
from loader_service.dataset.kinds import AnyTransform
from loader_service.dataset.naming import Naming
from loader_service.dataset.pinned import Pinned
from loader_service.dataset.purity import doubts, new_nans, same
from loader_service.dataset.sources.decoding import EncodedJpeg
from loader_service.dataset.sources.generator import GeneratorReader
from loader_service.dataset.transforms.map import SampleFunction, globals_kept
from loader_service.dataset.transforms.map_rows import MapRows
from loader_service.dataset.transforms.picture import RangedPicture
from loader_service.dataset.units import Turn, singly
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec

Draw = Callable[[int, NDArray[np.int64]], Mapping[int, NDArray[np.float64]]]
FillRows = Callable[[NDArray[np.int64], Mapping[str, np.ndarray]], None]


class Trial:
    """Does the first steps of a chain to the first sample."""

    def __init__(
        self,
        source: Pinned,
        transforms: tuple[AnyTransform, ...],
        groups: list[Group | None],
        keys: DrawKeys,
        draw: Draw,
        first: int,
        spec: Spec,
    ) -> None:
        """Take what the chain knows.

        Args:
            draw: Returns the random numbers of each step for some positions of an epoch.
            first: The sample that tells what all others look like.
            spec: What it is before all steps.
        """
        self._source, self._transforms, self._groups, self._keys = source, transforms, groups, keys
        self._draw, self._first, self._spec = draw, first, spec
        self._fields = frozenset(spec)

    def sample(self, position: int, steps: int) -> dict[str, Any]:
        """Return the first sample after so many steps, with the random numbers of a position in epoch 0."""
        draws = self._draw(0, np.asarray([position], np.int64))
        with Naming(self._source.reader.describe, self._first):
            return self.after(self._example(position), steps, position, draws)

    def after(self, sample: dict[str, Any], steps: int, position: int, draws: Mapping[int, Any]) -> dict[str, Any]:
        """Return a sample after so many steps, each by itself, at a position of epoch 0."""
        turn = Turn(0, draws, self._keys, position=position)
        for unit in singly(self._transforms[:steps], self._groups):
            for name in unit.fields:
                if not isinstance(sample[name], EncodedJpeg):
                    sample[name] = np.asarray(sample[name])
            sample = unit.apply(sample, turn, {})
        return sample

    def _example(self, position: int) -> dict[str, Any]:
        """Return the first sample as it is read; a generator has it still to give."""
        if isinstance(self._source.reader, GeneratorReader):
            return self._source.reader.peek()
        return self._source.read(0, self._first, position, self._fields)

    # -- is the user's code pure? ----------------------------------------------------------------------------

    def doubts(self, some_ids: NDArray[np.int64], specs: Sequence[Spec], fill: FillRows | None) -> list[str]:
        """Return what seems wrong with the user's code, in sentences: it is run some times more to find out.

        Args:
            specs: What a sample is before each step, and after the last.
            fill: Fills rows, where the user's source does that itself.
        """
        found: list[str] = []
        if self._source.by_user and fill is None:
            found += doubts(self._source.reader.describe(self._first), partial(self.sample, steps=0))
        for number, transform in enumerate(self._transforms):
            if isinstance(transform, RangedPicture):
                found += self._range_doubts(number, transform, specs[number])
            if isinstance(transform, SampleFunction) and not found:  # what comes behind it would be blamed as well
                found += doubts(transform.name, partial(self.sample, steps=number + 1))
                found += new_nans(transform.name, partial(self.sample, 0, number), partial(self.sample, 0, number + 1))
            if isinstance(transform, MapRows) and not found and not self._maps_rows_alike(number, transform, some_ids):
                found.append(
                    f"{transform.name} makes other rows when it is given some at a time: how many it is given at once "
                    "is nothing that a batch may depend on. Let it treat each row by itself, and draw random numbers "
                    "from an argument `rng`, which has some of its own for each row"
                )
        if fill is not None and not self._reads_rows_alike(some_ids, fill):
            found.append(
                "read_rows makes other rows when it is asked for some at a time, or twice: how many it is asked for at "
                "once is nothing that a batch may depend on. Give your source no read_rows, or draw nothing in it"
            )
        return found

    def _range_doubts(self, number: int, transform: RangedPicture, spec: Spec) -> list[str]:
        """Return what is wrong with the range of the pictures that a step is given: of the first one."""
        if spec[transform.field].dtype != "float32":
            return []
        try:
            with globals_kept():
                told = transform.range_doubt(np.asarray(self.sample(0, number)[transform.field]))
        except DatasetError:
            return []  # a sample is bad: whoever makes it will say so
        return [told] if told else []

    def _maps_rows_alike(self, number: int, transform: MapRows, ids: NDArray[np.int64]) -> bool:
        if isinstance(self._source.reader, GeneratorReader):
            return True  # it gives each sample once
        draws = self._draw(0, np.arange(len(ids)))
        before: list[dict[str, Any]] = []
        try:
            with globals_kept():
                for row, sample_id in enumerate(ids.tolist()):
                    sample = self._source.read(0, sample_id, row, self._fields)
                    own = {step: drawn[row : row + 1] for step, drawn in draws.items()}
                    before.append(self.after(sample, number, row, own))
                return transform.makes_rows_alike(before, self._keys.of(0, number))
        except Exception:  # a sample is bad: whoever makes it will say so
            return True

    def _reads_rows_alike(self, ids: NDArray[np.int64], fill: FillRows) -> bool:
        specs = self._spec.items()
        rows = [{name: np.zeros((len(ids), *field.room), field.dtype) for name, field in specs} for _ in "ab"]
        try:
            with globals_kept():
                fill(ids, rows[0])
                for row in range(len(ids)):
                    fill(ids[row : row + 1], {name: out[row : row + 1] for name, out in rows[1].items()})
        except DatasetError:
            return True  # a sample is bad: whoever makes it will say so
        return same(*rows)
