"""Which fields go along with a picture's geometry, and what boxes and points become of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from loader_service.dataset.transforms.geometry.moves import as_array
from loader_service.dataset.transforms.geometry.opencv import DTYPES
from loader_service.dataset.transforms.geometry.placement import Placement
from loader_service.dataset.transforms.transform import Transform, field_of
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import FieldSpec, Spec

Names = tuple[str, ...]
LEAST = 1e-3  # pixels: less is left of a box by rounding
TURNS = 30  # of looking for the place that a bend leads to another one
ALONG = np.array([0.0, 0.25, 0.5, 0.75])  # places on each side of a box, which a bend may make round


class Follow(Transform):
    """From here on, what happens to the places of a picture happens to these fields, too: one draw, one warp each.

    `pictures` are drawn as the picture itself is; `masks` with the nearest pixel, so that no number is made up. `boxes`
    are (n, 4), x1 y1 x2 y2 in pixels from the picture's upper left edge: the whole picture is 0 0 width height.
    `points` are (n, 2), x y in pixels, where 0 0 is the centre of the first pixel.
    """

    kind: Literal["follow"] = "follow"
    image: str = "image"
    pictures: Names = ()
    masks: Names = ()
    boxes: Names = ()
    points: Names = ()
    mask_value: float = Field(0.0, description='What lies outside of masks, with fill_mode "constant".')
    outside: Literal["clip", "keep"] = Field(
        "clip", description="What becomes of the parts of boxes that leave the picture."
    )
    visible: Annotated[float, Field(ge=0, le=1, description="Share of a box that must be left by clipping it.")] = 0.0

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = self.fields
        if not names:
            raise ValueError("expected the fields that follow: pictures, masks, boxes or points")
        twice = [name for name in {*names, self.image} if (*names, self.image).count(name) > 1]
        if twice:
            raise ValueError(f"field {min(twice)!r} is named twice")
        return self

    @property
    def fields(self) -> Names:
        """All that follow."""
        return (*self.pictures, *self.masks, *self.boxes, *self.points)

    def declare(self, spec: Spec) -> Spec:
        """Change nothing; refuse what cannot follow."""
        for name in (self.image, *self.fields):
            field_of(self.kind, spec, name)
        image = spec[self.image]
        _expect(self.image, image, len(image.shape) == 3 and not image.varies, "a picture (height, width, channels)")
        for name in (*self.pictures, *self.masks):
            field, axes = spec[name], (3,) if name in self.pictures else (2, 3)
            told = "(height, width, channels)" if name in self.pictures else "(height, width), or with channels"
            _expect(name, field, len(field.shape) in axes and not field.varies, told)
            if name in self.masks:
                _expect(name, field, field.dtype in DTYPES, f"one of {DTYPES}: cast it first")
            self._same_size(name, field.room, image.room)
        for name in (*self.boxes, *self.points):
            field, entries = spec[name], 4 if name in self.boxes else 2
            told = f"({'n, x1 y1 x2 y2' if entries == 4 else 'n, x y'}): an axis of any size, and one of {entries}"
            _expect(name, field, len(field.shape) == 2 and field.shape[1] == entries, told)
            _expect(name, field, np.dtype(field.dtype).kind in "if", "numbers that may be below 0: cast it first")
        return spec

    def check(self, name: str, value: np.ndarray, image: np.ndarray) -> None:
        """Refuse a sample whose picture or mask has another size than the picture that it follows."""
        self._same_size(name, value.shape, image.shape)

    def moved_boxes(self, name: str, value: Any, placement: Placement, height: int, width: int) -> np.ndarray:
        """Return what boxes on a picture of (height, width) become, in order; those that are nowhere, zeros.

        A box is as large as what is left of it needs. One without area is padding, and stays as it is.

        Raises:
            DatasetError: If one is turned round, or outside of the picture.
        """
        boxes = np.asarray(value)
        _check_boxes(name, boxes, height, width, self.outside == "clip")
        there = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if not there.any():
            return boxes
        corners = _outlines(boxes[there].astype(np.float64) - 0.5, placement.bend is not None)
        moved = moved_places(corners, placement) + 0.5
        made = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
        if self.outside == "clip":
            made = self._clipped(made, placement)
        result = boxes.copy()
        result[there] = _as(made, boxes.dtype)
        return result

    def moved_points(self, value: Any, placement: Placement) -> np.ndarray:
        """Return where points go; it may be outside of the picture."""
        points = np.asarray(value)
        return _as(moved_places(points.astype(np.float64), placement), points.dtype) if points.size else points

    def _same_size(self, name: str, shape: tuple[int, ...], image: tuple[int, ...]) -> None:
        if shape[:2] != image[:2]:
            what = "mask" if name in self.masks else "picture"
            raise DatasetError(
                f"follow: {what} {name!r} is {shape[0]} x {shape[1]} pixels, {self.image!r} {image[0]} x {image[1]}: "
                "expected one size, or they would not lie on one another. Resize it first"
            )

    def _clipped(self, boxes: NDArray[np.float64], placement: Placement) -> NDArray[np.float64]:
        clipped = boxes.clip(0, (placement.width, placement.height) * 2)
        sides, left = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
        gone = (left <= LEAST).any(axis=1) | (left.prod(axis=1) < self.visible * sides.prod(axis=1))
        clipped[gone] = 0
        return clipped


def moved_places(places: NDArray[np.float64], placement: Placement) -> NDArray[np.float64]:
    """Return where in the output the places (..., 2) of a picture are seen."""
    if placement.bend is None:
        return _led(places, np.linalg.inv(as_array(placement.to_picture())))
    assert placement.matrix is not None, "a bend is never simple"
    within = places - (placement.window.left, placement.window.top)
    bent = _led(within, np.linalg.inv(as_array(placement.matrix)))
    return _led(_unbent(bent, placement.bend.shifts), np.linalg.inv(as_array(placement.bend_from)))


def _led(places: NDArray[np.float64], lead: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = places @ lead[:2, :2].T + lead[:2, 2]
    if lead[2, 0] or lead[2, 1]:
        made /= places @ lead[2, :2, None] + lead[2, 2]
    return made


def _unbent(places: NDArray[np.float64], shifts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the places which, with their shifts added, are these."""
    found = wanted = places.reshape(-1, 1, 2)
    for _ in range(TURNS):
        maps = found.astype(np.float32)
        found = wanted - cv2.remap(shifts, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    made: NDArray[np.float64] = found.reshape(places.shape)
    return made


def _outlines(boxes: NDArray[np.float64], bent: bool) -> NDArray[np.float64]:
    """Return places on the sides of each box, (n, places, 2): the corners, and more of them, if sides get bent."""
    x1, y1, x2, y2 = boxes.T[:, :, None]
    along = ALONG if bent else ALONG[:1]
    right, down = x1 + (x2 - x1) * along, y1 + (y2 - y1) * along
    left, up = x2 - (x2 - x1) * along, y2 - (y2 - y1) * along
    level = np.ones_like(along)
    x = np.concatenate([right, x2 * level, left, x1 * level], axis=1)
    y = np.concatenate([y1 * level, down, y2 * level, up], axis=1)
    return np.stack([x, y], axis=2)


def _check_boxes(name: str, boxes: np.ndarray, height: int, width: int, inside: bool) -> None:
    x1, y1, x2, y2 = boxes.T
    round_ = np.flatnonzero((x2 < x1) | (y2 < y1))
    if round_.size:
        raise DatasetError(
            f"follow: box {round_[0]} of {name!r} is {boxes[round_[0]].tolist()}, whose second corner lies before the "
            "first: expected x1 y1 x2 y2"
        )
    there = (x2 > x1) & (y2 > y1)
    out = np.flatnonzero(there & ((x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)))
    if inside and out.size:
        raise DatasetError(
            f"follow: box {out[0]} of {name!r} is {boxes[out[0]].tolist()}, outside of its picture of {height} x "
            f'{width} pixels: expected x1 y1 x2 y2, in pixels. With outside="keep", boxes may lie anywhere'
        )


def _as(places: NDArray[np.float64], dtype: np.dtype) -> np.ndarray:
    return (np.rint(places) if dtype.kind == "i" else places).astype(dtype)


def _expect(name: str, field: FieldSpec, fits: bool, told: str) -> None:
    if not fits:
        raise DatasetError(f"follow: field {name!r} is {field}, expected {told}")
