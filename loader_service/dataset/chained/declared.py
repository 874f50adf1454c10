"""What every method builds upon: a declaration, the arrays that it names, and how one step more is added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from loader_service.dataset.declaration import Declaration
from loader_service.dataset.finish.step import Finish
from loader_service.dataset.given import checked
from loader_service.dataset.kinds import kind_of
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.sources.source import Source
from loader_service.dataset.transforms.transform import Transform
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.tables import TableRef

FUNCTION_ADVICE = 'write a function in a module, for example augment.py, and name it: "augment:noise"'


@dataclass(frozen=True, eq=False, repr=False)
class Declared:
    """A declaration under construction; immutable: every method returns a new one."""

    declaration: Declaration
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)  # arrays that it names, by hash

    def to_dict(self) -> dict[str, Any]:
        """Return its plain form: what the config file holds, and messages carry. Arrays appear as hashes."""
        return self.declaration.to_plain()

    @classmethod
    def from_dict(cls, plain: dict[str, Any], tables: Mapping[str, np.ndarray] | None = None) -> Self:
        """Return the dataset that `to_dict` described."""
        return cls(Declaration.from_plain(plain), tables or {})

    @classmethod
    def _of(cls, source: type[Source], tables: Mapping[str, np.ndarray] | None = None, **options: Any) -> Self:
        made: Any = checked(source, **options)
        return cls(Declaration(source=made), tables or {})

    def _table(self, ref: TableRef, *, private: bool = False) -> np.ndarray:
        """Return an array that the declaration names: read-only, as workers see it; or a copy of one's own."""
        if ref.table not in self.tables:
            raise DatasetError(
                "the dataset reads arrays in memory, which its plain form names by their hash only: "
                "give them to from_dict, as `tables`"
            )
        array = self.tables[ref.table].view()
        if private:
            return array.copy()
        array.flags.writeable = False
        return array

    def _finish(self, step: type[Finish], **options: Any) -> Self:
        made: Any = checked(step, **options)
        last = self.declaration.finish[-1:]
        if last and last[0].kind == "map_batch" and made.kind != "map_batch":
            raise DatasetError(f"{made.kind}: say it before map_batch, whose function sees batches as they are then")
        return self._replace(finish=(*self.declaration.finish, made))

    def _then(self, transform: type[Transform], **options: Any) -> Self:
        if self.declaration.finish:
            done, kind = self.declaration.finish[-1].kind, transform.model_fields["kind"].default
            raise DatasetError(f"{kind}: it acts on samples, so say it before {done}, which acts on whole batches")
        step: Any = checked(transform, **options)
        return self._replace(transforms=(*self.declaration.transforms, step))

    def _count(self, step: type[SelectionStep], n: int) -> Self:
        name = kind_of(step)
        if self.declaration.shuffle:
            raise DatasetError(
                f"{name} stands behind shuffle, but it counts samples in the order of the source, which are the same "
                "ones in each epoch: put it before .shuffle(...). To choose some by chance, there is .split(...)"
            )
        return self._select(step, n=n)

    def _select(self, step: type[SelectionStep], **options: Any) -> Self:
        made: Any = checked(step, **options)
        if self.declaration.batch:
            raise DatasetError(f"{made.kind} stands behind batch, but it is about samples: put it before .batch(...)")
        selected = self._replace(select=(*self.declaration.select, made))
        if told := selected.declaration.misplaced():
            raise DatasetError(told)
        return selected

    def _replace(self, **changes: Any) -> Self:
        return replace(self, declaration=self.declaration.model_copy(update=changes))
