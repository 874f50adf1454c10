"""Which worker opens which dataset, and what is made of what it says, or of its death. Rules only: no I/O.

    WAITS -a worker is told-> OPENS -it says what it is-> concluded
      ^                         |  `--it refuses-------> gone
      `------- it dies ---------'

A worker may die over a dataset for reasons of its own. So others try: first as it is, then with its first sample blamed
and left alone, then it is refused.

Where the user's own code makes whole batches, two workers open it at the same time, and what they say is compared: code
that makes other batches in each process can only be read live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loader_service.dataset.kinds import kind_of
from loader_service.dataset.sources.keras_sequence import IMPURE, KerasSequence
from loader_service.protocol.codec import failed
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.messages import DatasetOpened, DatasetRefused
from loader_service.protocol.shard import Shard

ATTEMPTS = 3  # workers that may die over opening a dataset
LOSSES = 12  # those, and workers that were killed meanwhile, maybe by somebody who knows nothing of it
LOST = "lost with the template"
FROM_OUTSIDE = ("killed by SIGKILL", LOST)  # these ends may have nothing to do with what the worker was at


@dataclass(eq=False)
class Opening:
    """A dataset that is to be opened; `ends` says how those ended that died over it.

    That is what its first sample is blamed for, at first: it is left alone then, as one that cannot be made.
    """

    dataset: int
    declaration: dict[str, Any]
    shard: Shard
    bundles: bool = False
    worker: int | None = None
    ends: list[str] = field(default_factory=list)
    blame: str = ""
    twin: int | None = None  # the second worker
    found: tuple[int, DatasetOpened] | None = None  # who of the two has said it, and what


class Openings:
    """The datasets that wait for a worker to open them, or for what it says."""

    def __init__(self) -> None:
        self._openings: dict[int, Opening] = {}

    def add(self, dataset: int, declaration: dict[str, Any], shard: Shard, bundles: bool = False) -> None:
        """This dataset is to be opened."""
        self._openings[dataset] = Opening(dataset, declaration, shard, bundles)

    def forget(self, dataset: int) -> bool:
        """Nobody waits for it any more. Return whether somebody did."""
        return self._openings.pop(dataset, None) is not None

    def assign(self, load: Mapping[int, int]) -> tuple[Opening, list[int]] | None:
        """Return the next dataset that waits for a worker, and who is to open it; None if there is none.

        Args:
            load: How much each worker has to do, that is given anything.
        """
        idlest = sorted(load, key=lambda worker: (load[worker], worker))
        opening = next((each for each in self._openings.values() if each.worker is None), None)
        if opening is None or not idlest:
            return None
        opening.worker = idlest[0]
        if _makes_whole_batches(opening.declaration) and len(idlest) > 1 and not opening.ends:
            opening.twin = idlest[1]
            return opening, idlest[:2]
        return opening, idlest[:1]

    def opened(self, worker: int, told: DatasetOpened) -> DatasetOpened | None:
        """A worker says what a dataset is. Return what it is, once that is known."""
        opening = self._openings.get(told.dataset)
        if opening is None:
            return told
        if opening.twin is not None and opening.found is None:
            opening.found = (worker, told)
            return None
        return told if opening.found is None else _both_say(opening.found[1], told)

    def worker_ended(self, worker: int, how: str) -> list[DatasetOpened | DatasetRefused]:
        """A worker is dead. Return what is known now of datasets that it was to open."""
        known: list[DatasetOpened | DatasetRefused] = []
        for opening in list(self._openings.values()):
            if opening.twin is not None and worker in (opening.worker, opening.twin):
                known += self._one_is_left(opening, worker)
            elif opening.worker == worker:
                known += self._lost(opening, how)
        return known

    def _one_is_left(self, opening: Opening, lost: int) -> list[DatasetOpened | DatasetRefused]:
        """One of the two workers that open a dataset has died: what the other says goes."""
        opening.worker = opening.twin if opening.worker == lost else opening.worker
        opening.twin = None
        found, opening.found = opening.found, None
        return [found[1]] if found is not None and found[0] != lost else []

    def _lost(self, opening: Opening, how: str) -> list[DatasetOpened | DatasetRefused]:
        opening.worker = None
        opening.ends.append(how)
        own = [end for end in opening.ends if end not in FROM_OUTSIDE]
        if len(own) < ATTEMPTS and len(opening.ends) < LOSSES:
            return []
        why = f"{len(opening.ends)} workers died while each opened the dataset; the last was {how}"
        if not opening.blame:
            opening.ends, opening.blame = [], why
            return []
        return [DatasetRefused(opening.dataset, failed(DatasetError(why)))]


def _makes_whole_batches(declaration: dict[str, Any]) -> bool:
    source = declaration.get("source")
    return isinstance(source, dict) and source.get("kind") == kind_of(KerasSequence)


def _both_say(one: DatasetOpened, other: DatasetOpened) -> DatasetOpened:
    """Return what a dataset is that two workers have opened: if they make other batches, it can only be read live."""
    if one.proof == other.proof or other.info.live:
        return other
    told = IMPURE.format(name="the Sequence, in each worker,")
    return replace(other, info=replace(other.info, live=True), doubts=[told])
