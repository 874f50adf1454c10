"""What happens to each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from loader_service.dataset.chained.declared import FUNCTION_ADVICE, Declared
from loader_service.dataset.given import PathLike
from loader_service.dataset.objects import named_or_carried
from loader_service.dataset.statistics.stats import Stats
from loader_service.dataset.transforms.albumentation import Albumentations
from loader_service.dataset.transforms.map import Map, SampleFunction
from loader_service.dataset.transforms.map_rows import MapRows
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
        return self._call(Map, function)

    def map_rows(self, function: str | Callable[..., dict[str, Any]]) -> Self:
        """Call your function on many samples at once: a dict of arrays (rows, ...) in, and one with as many rows out.

        How many rows it is given is whatever a worker has to make next, and nothing may depend on it. An argument named
        `rng` receives a `RowNumbers`: its `random`, `uniform`, `normal` and `integers` return arrays of shape (rows,
        *shape), in which each row has numbers of its own. The function is named as for `map`, and may change its
        arrays in place.

        Raises:
            DatasetError: As `map`.
        """
        return self._call(MapRows, function)

    def albumentations(
        self, transform: str | Callable[..., dict[str, Any]], *, targets: Mapping[str, str] | None = None
    ) -> Self:
        """Call a transform of albumentations', or any callable of that form: `transform(image=..., mask=...)["image"]`.

        Its random numbers are this sample's own, whatever seed it was made with.

        Args:
            transform: Named as for `map`, or given.
            targets: From what it calls an argument to the field that is meant, as in {"image": "x", "mask": "y"}. If
                nothing is said, the fields `image`, `mask`, `bboxes` and `keypoints`, as far as there are such.
        Raises:
            DatasetError: As `map`.
        """
        return self._call(Albumentations, transform, targets=None if targets is None else dict(targets))

    def _call(self, step: type[SampleFunction], function: str | Callable[..., Any], **options: Any) -> Self:
        tables = dict(self.tables)
        code = named_or_carried(function, step.model_fields["kind"].default, FUNCTION_ADVICE, tables)
        return replace(self._then(step, function=code, **options), tables=tables)
