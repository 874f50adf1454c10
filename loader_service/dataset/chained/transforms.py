"""What happens to each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

from loader_service.dataset.chained.declared import FUNCTION_ADVICE, Declared
from loader_service.dataset.given import PathLike
from loader_service.dataset.objects import named_or_carried
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.transforms.map import Map
from loader_service.dataset.transforms.patch import RandomPatch
from loader_service.dataset.transforms.values import Cast, ClassIndex, Normalize, OneHot, Rescale
from loader_service.protocol.errors import DatasetError


class Transforms(Declared):
    """Patches cut, values changed, one sample at a time; and a function of the user's."""

    def random_patch(self, size: Sequence[int], *, field: str | Sequence[str] = "image") -> Self:
        """Cut `size` out of anywhere along the first axes, at the same place of all fields that are named."""
        return self._then(RandomPatch, size=size, field=field)

    def rescale(self, scale: float, offset: float = 0.0, *, field: str = "image") -> Self:
        """Make it value * scale + offset, as float32."""
        return self._then(Rescale, scale=scale, offset=offset, field=field)

    def normalize(
        self,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        *,
        stats: Stats | PathLike | None = None,
        field: str = "image",
    ) -> Self:
        """Make it (value - mean) / std, as float32; one number each, or one for each entry of the last axis.

        Args:
            stats: What `stats()` returned, or the file that it was written to: mean and std of the field are taken out
                of it at once, and are part of the dataset from there on. They are right for samples as they were when
                they were counted: say it where the transforms of then end.
        Raises:
            DatasetError: If mean and std are missing, or are there twice; or if statistics have none of this field.
        """
        if stats is None:
            given = {name: value for name, value in (("mean", mean), ("std", std)) if value is not None}
            return self._then(Normalize, **given, field=field)
        if mean is not None or std is not None:
            raise DatasetError("normalize: mean and std come from stats: give either")
        mean, std = (stats if isinstance(stats, Stats) else Stats.load(stats)).scale_of(field)
        return self._then(Normalize, mean=mean, std=std, field=field)

    def one_hot(self, field: str, classes: int, *, smoothing: float = 0.0) -> Self:
        """Turn class numbers into float32 vectors of length `classes`.

        Args:
            smoothing: Share of the one that is spread over all classes alike, in [0, 1).
        """
        return self._then(OneHot, field=field, classes=classes, smoothing=smoothing)

    def class_index(self, field: str) -> Self:
        """Turn vectors with one entry for each class into class numbers, int64: the place of the largest."""
        return self._then(ClassIndex, field=field)

    def cast(self, field: str, dtype: str) -> Self:
        """Change a field's dtype: NumPy's numbers and bool, and "bfloat16", which needs the package ml_dtypes."""
        return self._then(Cast, field=field, dtype=dtype)

    def map(self, function: str | Callable[..., dict[str, Any]]) -> Self:
        """Call your function on every sample: a dict of arrays in, a dict of arrays out.

        It is named by import path, "augment:noise", or given. One that has no import path (a lambda, a function inside
        a function, one of the script) is sent to the workers of a private daemon, and to no others. An argument named
        `rng` receives a `numpy.random.Generator` of this sample's own; `random` and `numpy.random` are seeded too.

        Raises:
            DatasetError: If there is no such module, or the function has no import path and cannot be pickled.
        """
        tables = dict(self.tables)
        step = self._then(Map, function=named_or_carried(function, "map", FUNCTION_ADVICE, tables))
        return replace(step, tables=tables)
