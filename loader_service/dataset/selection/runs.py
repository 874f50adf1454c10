"""The first samples, and all but the first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loader_service.dataset.selection.selection import Run, Selection
from loader_service.dataset.selection.step import SelectionStep
from loader_service.dataset.sources.source import Index
from loader_service.protocol.errors import DatasetError


class Take(SelectionStep):
    """The first samples."""

    kind: Literal["take"] = "take"
    n: Annotated[int, Field(ge=1, lt=2**63, description="Samples; all, where there are fewer.")]

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """End sooner."""
        return Run(inner, 0, min(self.n, inner.size))


class Skip(SelectionStep):
    """All but the first samples."""

    kind: Literal["skip"] = "skip"
    n: Annotated[int, Field(ge=0, lt=2**63, description="Samples to leave out.")]

    def apply(self, inner: Selection, index: Index, seed: int) -> Selection:
        """Begin later."""
        if self.n >= inner.size:
            raise DatasetError(f"skip({self.n:,}) leaves none of the {inner.size:,} samples")
        return Run(inner, self.n, inner.size - self.n)
