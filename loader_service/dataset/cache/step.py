"""`.cache()`: where in a chain samples are kept, and how much of them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loader_service.config import Size


class Cache(BaseModel):
    """Keep what the steps before have made of each sample: for all workers, trainers and runs to come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Annotated[int, Field(ge=0, description="How many transforms stand before it; all, if nothing is said.")]
    most: Size | None = Field(
        None,
        description='Bytes that it may take, as in "20 GiB". Unset: half of what the disk, or memory, has left when it '
        "is opened.",
    )
    path: str | None = Field(
        None, description="Folder in which it lies; relative to the config. Unset: that of the user's caches."
    )
    in_memory: bool = Field(False, description="Keep them in shared memory, and nothing on a disk.")

    @model_validator(mode="after")
    def _in_one_place(self) -> Self:
        if self.in_memory and self.path is not None:
            raise ValueError("path is a folder on a disk, and in_memory takes none: say either")
        return self
