"""What a step of a selection is, as it is declared: plain data that makes a selection of another one.

Like a source, a step may look at the samples once, when the dataset is opened, and keep what it found in the index: the
worker that comes first does so, and all others map its tables.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from loader_service.dataset.selection.candidates import Candidates
from loader_service.dataset.selection.selection import Selection
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.dataset.user_code import UserCode


class SelectionStep(BaseModel):
    """One declared step; immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    draws: ClassVar[bool] = False  # whether what it makes has other samples in each epoch: then no step may follow

    kind: str

    def make_index(self, candidates: Candidates, table: ReadTable) -> Index:
        """Look at the samples; once for each dataset.

        Raises:
            DatasetError: If nothing can be selected from them.
        """
        return {}

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Return the selection from `inner`; `seed` is the dataset's.

        Raises:
            DatasetError: If nothing would be left.
        """
        raise NotImplementedError(f"{type(self).__name__} must select")

    def user_code(self) -> list[UserCode]:
        """Return the user modules whose source belongs to the key."""
        return []
