"""Room around pictures."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from loader_service.dataset.transforms.geometry.drawing import FillMode, KnownFillMode
from loader_service.dataset.transforms.geometry.geometric import Geometric
from loader_service.dataset.transforms.geometry.moves import Cut, Move
from loader_service.dataset.transforms.geometry.opencv import DTYPES
from loader_service.dataset.transforms.transform import Draws, Pixels, image_field
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec

Padding = Annotated[int, Field(ge=0, le=65536)]


class PadImage(Geometric):
    """Put room around pictures: `padding` on all sides; or as much as they need to have (height, width), around it.

    A picture that is larger than that stays as it is.
    """

    alone: ClassVar[bool] = True  # it sees the edges of what comes before, exactly

    kind: Literal["pad_image"] = "pad_image"
    padding: Padding | tuple[Padding, Padding] | None = Field(
        None, description="Pixels on all sides; or above and below, and left and right."
    )
    height: Pixels | None = Field(None, description="Pixels that a picture has then, or more.")
    width: Pixels | None = Field(None, description="Pixels that a picture has then, or more.")
    fill_mode: KnownFillMode = "constant"
    fill_value: float = Field(0.0, description='What lies outside, with fill_mode "constant".')

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.padding is None) == (self.height is None and self.width is None):
            raise ValueError("expected either padding, or height and width")
        return self

    @property
    def filling(self) -> tuple[FillMode, float]:
        """As it is declared."""
        return self.fill_mode, self.fill_value

    def declare_field(self, field: FieldSpec) -> FieldSpec:
        """Add what is put around the picture that the field tells of."""
        height, width, channels = image_field(self, field)
        if field.dtype not in DTYPES:
            raise DatasetError(f"{self.kind}: field {self.field!r} is {field}, expected one of {DTYPES}: cast it first")
        _, _, rows, columns = self._window(height, width)
        return FieldSpec((rows, columns, channels), field.dtype)

    def moves(self, height: int, width: int, draws: Draws) -> tuple[Move, ...]:
        """Cut out more than there is."""
        return (self._window(height, width),)

    def _window(self, height: int, width: int) -> Cut:
        if self.padding is None:
            rows, columns = max(0, (self.height or 0) - height), max(0, (self.width or 0) - width)
            return Cut(-(rows // 2), -(columns // 2), height + rows, width + columns)
        above, left = self.padding if isinstance(self.padding, tuple) else (self.padding, self.padding)
        return Cut(-above, -left, height + 2 * above, width + 2 * left)
