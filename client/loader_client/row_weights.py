"""What each row counts in a loss, where that is more than a field of the batch.

    weight of a row = the field of weights  x  the weight of its class  x  rows per sample

Keras divides the loss of a batch by all of its rows, and an epoch's loss by all rows of its batches; rows that pad
the last batch have weight 0, and still count there. Rows per sample makes up for them: losses and gradients are
those of the same samples without padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loader_client.roles import Roles
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import DatasetInfo, FieldSpec

ClassWeights = Mapping[int, float] | Literal["balanced"]


@dataclass(frozen=True)
class RowWeights:
    """Computes the weights of a batch's rows."""

    field: str | None
    spec: FieldSpec
    target: str | None  # the field that tells the class
    of_class: NDArray[np.float32]  # the last one is that of all classes that are not named

    @classmethod
    def of(cls, info: DatasetInfo, roles: Roles, class_weight: ClassWeights | None) -> RowWeights | None:
        """Return how to weigh rows; None if the field of weights, or none, is all there is to it.

        Raises:
            DatasetError: If class weights do not fit the targets.
        """
        if isinstance(class_weight, str) and class_weight != "balanced":
            raise DatasetError(
                f'class_weight is {class_weight!r}, expected "balanced", or a dict from class to weight: of a file of '
                f"statistics, that is Stats.load({class_weight!r}).balanced()"
            )
        if not class_weight and (info.remainder != "pad" or roles.weights is None):
            return None
        spec = FieldSpec(info.spec[roles.weights].shape if roles.weights else (), "float32")
        if not class_weight:
            return cls(roles.weights, spec, None, np.ones(1, np.float32))
        target = _class_field(info, roles)
        given = _balanced(info, target) if isinstance(class_weight, str) else class_weight
        return cls(roles.weights, spec, target, _table(given, _classes(info, target)))

    def __call__(self, batch: Mapping[str, np.ndarray], rows_per_sample: float) -> NDArray[np.float32]:
        """Return the weights of a batch's rows, of shape (rows, *shape of the field of weights)."""
        weights: NDArray[np.float32] = np.full(1, rows_per_sample, np.float32)
        if self.target is not None:
            weights = weights * self._by_class(batch[self.target])
        if self.field is None:
            return weights
        field = batch[self.field]
        weights = weights.reshape(-1, *(1 for _ in self.spec.shape))
        weighted: NDArray[np.float32] = np.multiply(field, weights, dtype=np.float32)
        return weighted

    def _by_class(self, labels: np.ndarray) -> NDArray[np.float32]:
        ids = labels.argmax(-1) if _is_one_hot(labels.shape[1:]) else labels.reshape(-1)
        others = len(self.of_class) - 1
        known = np.where((ids >= 0) & (ids < others), ids, others)
        return self.of_class[known.astype(np.intp)]


def _class_field(info: DatasetInfo, roles: Roles) -> str:
    if len(roles.targets) != 1 or roles.targets[0] in roles.groups:
        raise DatasetError(f"class_weight needs one target that tells the class, these are {list(roles.targets)}")
    (target,) = roles.targets
    field = info.spec[target]
    if len(field.shape) > 1:
        raise DatasetError(f"class_weight needs one label a sample; the target {target!r} is {field}")
    if not _is_one_hot(field.shape) and np.dtype(field.dtype).kind not in "iub":
        raise DatasetError(
            f"class_weight needs class ids or one-hot labels; the target {target!r} is {field}. "
            f"If it holds class ids, add .cast({target!r}, 'int64') to the dataset."
        )
    return target


def _is_one_hot(shape: tuple[int | None, ...]) -> bool:
    return len(shape) == 1 and shape[0] != 1


def _classes(info: DatasetInfo, target: str) -> int | None:
    """Return how many classes there are, where that is known."""
    shape = info.spec[target].shape
    if _is_one_hot(shape):
        return shape[0]
    return len(info.class_names) or None if [target] == info.targets else None


def _balanced(info: DatasetInfo, target: str) -> dict[int, float]:
    """Return weights with which all classes count alike, and a sample weighs 1 on average."""
    counts = {id_: count for id_, count in enumerate(info.class_counts) if count}
    if not counts or [target] != info.targets:
        raise DatasetError(
            f'class_weight="balanced" needs to know how many samples of {target!r} each class has, and this dataset '
            "cannot tell without making them all. Count them once, with stats = dataset.stats(), and say "
            f"class_weight=stats.balanced({target!r})"
        )
    return {id_: sum(counts.values()) / (len(counts) * count) for id_, count in counts.items()}


def _table(class_weight: Mapping[int, float], classes: int | None) -> NDArray[np.float32]:
    highest = 2**20 if classes is None else classes - 1  # a table of more would not be a choice of classes
    for id_, weight in class_weight.items():
        if not isinstance(id_, int | np.integer) or not 0 <= id_ <= highest:
            raise DatasetError(f"class_weight names class {id_!r}, expected an integer from 0 to {highest:,}")
        if not isinstance(weight, int | float | np.number) or not math.isfinite(weight):
            raise DatasetError(f"class_weight gives class {id_} the weight {weight!r}, expected a number")
    table = np.ones(max(class_weight) + 2, np.float32)
    table[list(class_weight)] = list(class_weight.values())
    return table
