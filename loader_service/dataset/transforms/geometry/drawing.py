"""A placement and a picture -> pixels: views where nothing moves, one OpenCV call into the row where something does."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from pydantic import BeforeValidator, Field

from loader_service.dataset.transforms.geometry.bilinear import UNHALVED, Halvings, halved, kernel, scaled_bilinearly
from loader_service.dataset.transforms.geometry.mirroring import flipped
from loader_service.dataset.transforms.geometry.moves import (
    UPRIGHT,
    Cut,
    Matrix,
    Scale,
    Target,
    as_array,
    product,
    scaled,
)
from loader_service.dataset.transforms.geometry.opencv import AT_ONCE, with_channels
from loader_service.dataset.transforms.geometry.placement import Placement, moved

Interpolation = Literal["nearest", "bilinear", "area", "cubic", "lanczos"]
Smooth = Literal["nearest", "bilinear", "cubic", "lanczos"]  # what a warp can do
FillMode = Literal["nearest", "constant", "reflect", "wrap"]

RESIZING = {
    "nearest": cv2.INTER_NEAREST_EXACT,  # nearest to a pixel's centre, as in Pillow, Keras and TensorFlow
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
HALVED = ("bilinear", "cubic", "lanczos")  # which look at a few pixels, however much smaller the picture becomes
WARPING = {**RESIZING, "nearest": cv2.INTER_NEAREST}  # which is that of a pixel's centre, in a warp
BORDERS = {  # Keras' words for what lies outside of a picture
    "nearest": cv2.BORDER_REPLICATE,  # aaaa|abcd|dddd
    "constant": cv2.BORDER_CONSTANT,  # kkkk|abcd|kkkk
    "reflect": cv2.BORDER_REFLECT,  # dcba|abcd|dcba
    "wrap": cv2.BORDER_WRAP,  # abcd|abcd|abcd
}


def _known(mode: Any) -> Any:
    if not isinstance(mode, str) or mode in get_args(FillMode):
        return mode
    close = difflib.get_close_matches(mode, get_args(FillMode), n=1)
    told = f"; {close[0]!r} is nearest" if close else ""
    raise ValueError(f"expected a fill mode, 'nearest', 'constant', 'reflect' or 'wrap'{told}")


KnownFillMode = Annotated[
    FillMode,
    BeforeValidator(_known),
    Field(description="What lies outside of the picture: its edge, one value, its mirror image, or itself again."),
]


class Look(NamedTuple):
    """How pixels are made of other ones."""

    interpolation: Interpolation = "bilinear"
    antialias: bool = True  # in scaling down by more than two
    fill_mode: FillMode = "nearest"
    fill_value: float = 0.0


def drawn(picture: np.ndarray, placement: Placement, look: Look, out: np.ndarray | None) -> np.ndarray:
    """Return what a placement makes of a picture, (height, width) or (height, width, channels).

    It is a view, where pixels stay where they are; else it is in `out`, if that is given and fits.
    """
    if picture.dtype.kind == "b":
        return drawn(picture.view(np.uint8), placement, look, None if out is None else out.view(np.uint8)).view(bool)
    if placement.matrix is not None:
        return _warped(_part(picture, placement.window, look, None), placement, look, out)
    mirror, target = placement.mirror, placement.target
    part = _part(picture, placement.window, look, out if mirror == UPRIGHT else None)
    if target is not None:
        return resized(part, target, look.interpolation, look.antialias, out)
    return part if mirror == UPRIGHT else flipped(part, mirror, out)


def resized(
    picture: np.ndarray, target: Target, interpolation: Interpolation, antialias: bool, out: np.ndarray | None
) -> np.ndarray:
    """Return a picture in another size, or a part of that, mirrored.

    It is a view, where it has that size already; else it is in `out`, if that is given and fits.
    """
    if picture.dtype.kind == "b":
        seen = None if out is None else out.view(np.uint8)
        return resized(picture.view(np.uint8), target, interpolation, antialias, seen).view(bool)
    rows, columns, *_ = picture.shape
    height, width = target.scale
    whole = out if target.is_whole else None
    if rows == height and columns == width:
        return _shown(picture, target, out)
    halvings = _halvings(rows, columns, target.scale) if antialias and interpolation in HALVED else UNHALVED
    made = scaled_bilinearly(picture, target, out, halvings) if interpolation == "bilinear" else None
    if made is not None:
        return made
    if halvings != UNHALVED:
        picture = halved(picture, halvings)
        down, across = 2 ** halvings[0], 2 ** halvings[1]
        if rows % down or columns % across:  # an odd edge is left out
            smaller = _inverse_scale(down, across)
            matrix = product(smaller, scaled(rows / height, columns / width))
            return _shown(by_matrix(picture, matrix, height, width, Look(interpolation), whole), target, out)
    made = cv2.resize(picture, (width, height), dst=whole, interpolation=RESIZING[interpolation])
    return _shown(with_channels(made, picture), target, out)


def halvings_at_once(window: Cut, target: Target, look: Look) -> Halvings | None:
    """Return how often a window of a picture is halved, if bilinear.c does that, and makes all of a target out of it.

    It does so where there are 3 or 4 channels.
    """
    if look.interpolation != "bilinear" or kernel() is None:
        return None
    return _halvings(window.height, window.width, target.scale) if look.antialias else UNHALVED


def _halvings(rows: int, columns: int, scale: Scale) -> Halvings:
    """Return how often a picture is halved before it is scaled: until it is to be scaled down by two at most."""
    return _times(rows, rows / scale.height), _times(columns, columns / scale.width)


def _times(size: int, factor: float) -> int:
    """Return how often a side is halved that is to be smaller by a factor.

    Halving is exact and fast, whatever the factor; an area of another factor takes OpenCV ten times as long.
    """
    times = 0
    while factor / (1 << times) > 2 and size >> times > 1:
        times += 1
    return times


def _shown(picture: np.ndarray, target: Target, out: np.ndarray | None) -> np.ndarray:
    """Return what a target shows of a picture in its size; in `out`, if it is mirrored, and that is given and fits."""
    part = _part(picture, target.part, Look(), None)
    return part if target.mirror == UPRIGHT else flipped(part, target.mirror, out)


def _part(picture: np.ndarray, window: Cut, look: Look, out: np.ndarray | None) -> np.ndarray:
    """Return a view of a part of a picture; a copy, if the part is larger than the picture."""
    height, width, *_ = picture.shape
    top, left, part_height, part_width = window
    bottom, right = top + part_height, left + part_width
    if top >= 0 and bottom <= height and left >= 0 and right <= width:
        whole = part_height == height and part_width == width
        return picture if whole else picture[top:bottom, left:right]
    if picture.ndim == 3 and picture.shape[2] > AT_ONCE:
        return _by_groups(picture, lambda group: _part(group, window, look, None))
    edges, border, value = (
        (-top, bottom - height, -left, right - width),
        BORDERS[look.fill_mode],
        (look.fill_value,) * 4,
    )
    return with_channels(cv2.copyMakeBorder(picture, *edges, border, dst=out, value=value), picture)


def _warped(picture: np.ndarray, placement: Placement, look: Look, out: np.ndarray | None) -> np.ndarray:
    height, width, by_height, by_width = placement.height, placement.width, 1, 1
    if look.antialias and look.interpolation != "nearest":
        down, across = density(placement.to_window(), height, width)
        if max(down, across) > 2:
            halvings = _times(picture.shape[0], down), _times(picture.shape[1], across)
            picture, by_height, by_width = halved(picture, halvings), 2 ** halvings[0], 2 ** halvings[1]
    reduces = by_height * by_width > 1
    if placement.bend is not None:
        maps = placement.maps()
        maps = moved(maps, _inverse_scale(by_height, by_width)) if reduces else maps
        return _by_map(picture, maps, look, out)
    matrix = placement.matrix
    assert matrix is not None, "a simple placement is no warp"
    matrix = product(_inverse_scale(by_height, by_width), matrix) if reduces else matrix
    return by_matrix(picture, matrix, height, width, look, out)


def by_matrix(
    picture: np.ndarray, matrix: Matrix, height: int, width: int, look: Look, out: np.ndarray | None
) -> np.ndarray:
    """Return the picture (height, width), or with channels, whose pixels this matrix looks up in another one.

    Up to AT_ONCE channels are written into `out`, if that is given and fits.
    """
    if picture.ndim == 3 and picture.shape[2] > AT_ONCE:
        return _by_groups(picture, lambda part: by_matrix(part, matrix, height, width, look, None))
    flags, border = WARPING[look.interpolation] | cv2.WARP_INVERSE_MAP, BORDERS[look.fill_mode]
    value, size = (look.fill_value,) * 4, (width, height)
    if matrix[6] == matrix[7] == 0:
        lead = np.array(matrix[:6]).reshape(2, 3)
        made = cv2.warpAffine(picture, lead, size, dst=out, flags=flags, borderMode=border, borderValue=value)
    else:
        lead = as_array(matrix)
        made = cv2.warpPerspective(picture, lead, size, dst=out, flags=flags, borderMode=border, borderValue=value)
    return with_channels(made, picture)


def _by_map(picture: np.ndarray, maps: np.ndarray, look: Look, out: np.ndarray | None) -> np.ndarray:
    if picture.ndim == 3 and picture.shape[2] > AT_ONCE:
        return _by_groups(picture, lambda part: _by_map(part, maps, look, None))
    flags, border, value = WARPING[look.interpolation], BORDERS[look.fill_mode], (look.fill_value,) * 4
    made = cv2.remap(picture, maps, None, flags, dst=out, borderMode=border, borderValue=value)
    return with_channels(made, picture)


def _by_groups(picture: np.ndarray, draw: Any) -> np.ndarray:
    """Return what is drawn of some channels at a time."""
    starts = range(0, picture.shape[2], AT_ONCE)
    return np.concatenate([draw(np.ascontiguousarray(picture[..., k : k + AT_ONCE])) for k in starts], axis=2)


def _inverse_scale(by_height: float, by_width: float) -> Matrix:
    return scaled(1 / by_height, 1 / by_width)


def density(matrix: Matrix, height: int, width: int) -> tuple[float, float]:
    """Return how many pixels of the input lie between neighbours in the middle of the output: downwards, across."""
    a, b, c, d, e, f, g, h, i = matrix
    if g or h:
        x, y = (width - 1) / 2, (height - 1) / 2
        w = g * x + h * y + i
        u, v = (a * x + b * y + c) / w, (d * x + e * y + f) / w
        a, b, d, e = (a - g * u) / w, (b - h * u) / w, (d - g * v) / w, (e - h * v) / w
    area = abs(a * e - b * d)
    across, down = (a * a + b * b) ** 0.5, (d * d + e * e) ** 0.5
    return (area / across if across else 0.0), (area / down if down else 0.0)
