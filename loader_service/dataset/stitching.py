"""What a model predicted for the patches of a grid, put together: the mean of all patches over a voxel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from loader_service.dataset.plan import Plan
from loader_service.dataset.sources.patches import Grid, Patches
from loader_service.protocol.errors import DatasetError


def stitch(plan: Plan, predictions: ArrayLike | Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return one array for each volume of a dataset over patches: see `Dataset.stitch`."""
    source, batch = plan.declaration.source, plan.declaration.batch
    if not isinstance(source, Patches):
        raise DatasetError(f"stitch: the dataset reads {source.kind}: only patches of from_patches have a place")
    if plan.declaration.select:
        raise DatasetError(f"stitch: it needs all patches: leave .{plan.declaration.select[0].kind}() away")
    if plan.shuffled:
        raise DatasetError("stitch: predictions must come in the order of the patches: leave .shuffle() away")
    if len(plan.ledger):
        raise DatasetError(f"stitch: {len(plan.ledger)} patches were replaced by others, which lie elsewhere")
    assert batch is not None, "checked when the plan was made"
    most = plan.batches_per_epoch * batch.size if batch.remainder == "pad" else plan.samples
    # Anything that is an array, one of TensorFlow's too, would give single predictions when it is iterated.
    batches: Any = [predictions] if hasattr(predictions, "__array__") else predictions
    return _together(source.grid(plan.index), batches, most)


def _together(grid: Grid, batches: Iterable[Any], most: int) -> list[np.ndarray]:
    axes = len(grid.size)
    volumes: list[np.ndarray] = []
    seen = 0
    for batch in map(np.asarray, batches):
        if batch.shape[1 : 1 + axes] != grid.size:
            wanted = ", ".join(map(str, grid.size))
            raise DatasetError(f"stitch: predictions are of the shape {batch.shape}, expected (patches, {wanted}, ...)")
        ids = np.arange(seen, max(seen, min(seen + len(batch), len(grid))), dtype=np.int64)
        seen += len(batch)
        for prediction, volume, corner in zip(batch, *grid.find(ids), strict=False):  # padding has no place
            if volume == len(volumes):
                shape = (*grid.extents[volume].tolist(), *batch.shape[1 + axes :])
                volumes.append(np.zeros(shape, np.result_type(batch.dtype, np.float32)))
            volumes[volume][grid.box(corner)] += prediction
    if seen not in (len(grid), most):
        raise DatasetError(f"stitch: there are {seen:,} predictions, expected one for each of {len(grid):,} patches")
    for number, volume in enumerate(volumes):
        for axis in range(axes):
            volume /= grid.cover(number, axis).reshape([-1 if other == axis else 1 for other in range(volume.ndim)])
    return volumes
