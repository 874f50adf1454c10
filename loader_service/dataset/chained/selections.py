"""Which of the samples there are, and how often each is drawn."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from numpy.typing import ArrayLike

from loader_service.dataset.chained.declared import Declared
from loader_service.dataset.given import PathLike, absolute, keep, row_array
from loader_service.dataset.selection.drawn import Balanced, Weighted, check_weights
from loader_service.dataset.selection.filter import Filter
from loader_service.dataset.selection.runs import Skip, Take
from loader_service.dataset.selection.split import Split
from loader_service.dataset.user_code import UserCode


class Selections(Declared):
    """Samples left out, split, weighted."""

    def take(self, n: int) -> Self:
        """Keep the first `n` samples; all, where there are fewer."""
        return self._count(Take, n)

    def skip(self, n: int) -> Self:
        """Leave out the first `n` samples."""
        return self._count(Skip, n)

    def filter(self, function: str | Callable[[dict[str, Any]], bool] | None = None, /, **values: Any) -> Self:
        """Keep some samples: `filter(label=3)`, `filter(label=["cat", "dog"])`, `filter("keep:large")`.

        All are looked at once, when the dataset is opened, and as they are at the source: before all transforms,
        wherever this stands among them.

        Args:
            function: Gets a sample, a dict of arrays, and returns True or False; named by import path, as for `map`.
            values: For each field the value that it must have, or several of which it must have one. The name of a
                class stands for its number.
        """
        return self._select(Filter, function=None if function is None else UserCode.of(function), values=values)

    def split(
        self, validation: float = 0.2, seed: int = 0, stratify: str | None = None, *, shuffle: bool = True
    ) -> tuple[Self, Self]:
        """Split the samples by chance into two parts, one to train with and one to validate with.

        Args:
            validation: Share of the samples that validate, between 0 and 1; there is at least one in either part.
            seed: Sets which they are. The same for the same seed, whatever `.shuffle` says.
            stratify: A field of the source, most often "label": the share then holds for each of its values.
            shuffle: False: the first samples validate, of each class with `stratify`, their number rounded down; as
                with the `validation_split` of Keras' generators.
        Returns:
            The dataset to train with, and the one to validate with.
        """
        options = {"validation": validation, "seed": seed, "stratify": stratify, "shuffle": shuffle}
        return self._select(Split, part="train", **options), self._select(Split, part="validation", **options)

    def balanced(self, field: str = "label", *, samples: int | None = None) -> Self:
        """Draw from all classes alike, however many samples they have.

        Their turns come equally often, and no sample comes again before all others of its class have come. Draws are
        others in each epoch, and come in a shuffled order in any case.

        Args:
            field: A field of the source, one number a sample: those with the same number are a class.
            samples: Draws of an epoch; as many as there are samples, where None.
        """
        return self._select(Balanced, field=field, samples=samples)

    def weighted(self, weights: ArrayLike | PathLike, *, samples: int | None = None) -> Self:
        """Draw samples as often as their weights say, with replacement; anew in each epoch.

        Args:
            weights: One for each sample of the source, 0 or more, also where only some of the samples are selected; or
                the path of a `.npy` file with them. They need not sum to 1.
            samples: Draws of an epoch; as many as there are samples, where None.
        """
        if isinstance(weights, str | os.PathLike):
            return self._select(Weighted, weights=absolute(weights), samples=samples)
        array = row_array("weighted: weights", weights)
        check_weights(array)
        tables = dict(self.tables)
        made = self._select(Weighted, weights=keep(array, tables), samples=samples)
        return replace(made, tables=tables)
