"""One field of one sample -> a tile: an RGB picture, uint8 (height, width, 3)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from loader_service.dataset.preview.looks import mask_planes, picture_of, planes_of
from loader_service.dataset.preview.sheet import Cell

Color = tuple[int, int, int]

SIDE = 160  # pixels of a tile that has one picture
PLANE = 104  # of each of several beside one another
CHART = 96  # height of lines and bars
GAP = 4  # pixels between planes
SQUARE = 8  # pixels of the checkerboard behind what is transparent
OPACITY = 0.5  # of a mask
CRISP = 2  # times larger: from there on, pixels are shown as squares

ODD: Color = (255, 0, 255)  # NaN and infinite values
PAPER, FRAME, AXIS = (255, 255, 255), (214, 218, 224), (170, 175, 182)
PALETTE: tuple[Color, ...] = (  # Okabe and Ito's, which the colour-blind can tell apart
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
    (90, 90, 90),
)
MASK_PALETTE: tuple[Color, ...] = tuple(PALETTE[place] for place in (1, 5, 6, 2, 3, 0, 4))


def width_of(cell: Cell) -> int:
    """Return how wide a cell's tile may be."""
    planes = len(planes_of(cell.value)) if cell.kind == "planes" else 1
    return SIDE if planes == 1 else planes * PLANE + (planes - 1) * GAP


def draw(cell: Cell, width: int) -> np.ndarray:
    """Draw one field, no wider than that."""
    if cell.kind in ("lines", "bars"):
        return _chart(cell, width)
    if cell.kind == "picture":
        return _picture(picture_of(cell.value), cell.mask, cell.shown, SIDE)
    planes = planes_of(cell.value)
    masks = [None] * len(planes) if cell.mask is None else mask_planes(cell.mask, cell.value)
    tiles = [_picture(plane, mask, cell.shown, PLANE) for plane, mask in zip(planes, masks, strict=False)]
    return _beside(tiles)


# -- pictures -------------------------------------------------------------------------------------------------


def _picture(picture: np.ndarray, mask: np.ndarray | None, shown: tuple[float, float], side: int) -> np.ndarray:
    grey, odd = _bytes(picture, shown)
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    resized = _resized(grey, size, factor)
    tile = _on_checkerboard(resized) if resized.shape[2] == 4 else np.repeat(resized, 3 // resized.shape[2], axis=2)
    if odd.any():
        tile[cv2.resize(odd.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0] = ODD
    return tile if mask is None else _overlaid(tile, mask, size)


def _bytes(picture: np.ndarray, shown: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return values as bytes, and where they are none."""
    if picture.dtype == np.uint8 and shown == (0.0, 255.0):
        return np.ascontiguousarray(picture), np.zeros(picture.shape[:2], bool)
    low, high = shown
    numbers = picture.astype(np.float64)
    odd = ~np.isfinite(numbers)
    numbers[odd] = low
    scaled = (numbers - low) / (high - low)
    if picture.shape[2] == 4 and low < 0 <= numbers[..., 3].min():  # colours were normalized, and opacity was not
        scaled[..., 3] = numbers[..., 3] / (255 if numbers[..., 3].max() > 1 else 1)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8), np.asarray(odd.any(axis=2))


def _resized(picture: np.ndarray, size: tuple[int, int], factor: float) -> np.ndarray:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST if factor >= CRISP else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(picture, size, interpolation=how)
    return resized if resized.ndim == 3 else resized[:, :, None]


def _on_checkerboard(picture: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(length) // SQUARE for length in picture.shape[:2])
    board = np.where((rows[:, None] + columns) % 2, 255, 204)[..., None]
    alpha = picture[..., 3:] / 255
    return np.round(picture[..., :3] * alpha + board * (1 - alpha)).astype(np.uint8)


def _overlaid(tile: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Tint a picture where a mask has a class, each in its own colour; 0 is none."""
    values, classes = np.unique(mask, return_inverse=True)
    tinted = tile.astype(np.float32)
    small = cv2.resize(classes.reshape(mask.shape).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    for place, value in enumerate(values.tolist()):
        if value:
            color = np.asarray(color_of_class(value), np.float32)
            where = small == place
            tinted[where] = tinted[where] * (1 - OPACITY) + color * OPACITY
            outline, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(tinted, outline, -1, color.tolist(), 1)
    return np.round(tinted).astype(np.uint8)


def color_of_class(value: float) -> Color:
    """Return the colour of a class of a mask: the same one in all masks. 255 is often the only one."""
    place = 0 if value == 255 else max(0, int(value) - 1)
    return MASK_PALETTE[place % len(MASK_PALETTE)]


def _beside(tiles: list[np.ndarray]) -> np.ndarray:
    height = max(len(tile) for tile in tiles)
    joined = np.full((height, sum(tile.shape[1] for tile in tiles) + GAP * (len(tiles) - 1), 3), PAPER, np.uint8)
    x = 0
    for tile in tiles:
        joined[: len(tile), x : x + tile.shape[1]] = tile
        x += tile.shape[1] + GAP
    return joined


# -- lines and bars -------------------------------------------------------------------------------------------


def _chart(cell: Cell, width: int) -> np.ndarray:
    tile = np.full((CHART, width, 3), PAPER, np.uint8)
    cv2.rectangle(tile, (0, 0), (width - 1, CHART - 1), FRAME, 1)
    low, high = cell.shown
    if cell.kind == "bars":
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if low < 0 < high:
        zero = _y(0.0, low, high)
        cv2.line(tile, (1, zero), (width - 2, zero), AXIS, 1)
    values = cell.value.astype(np.float64).reshape(len(cell.value), -1)
    if cell.kind == "bars":
        _bars(tile, values[:, 0], low, high)
    else:
        for channel in range(values.shape[1]):
            for points in _polylines(values[:, channel], width, low, high):
                cv2.polylines(tile, [points], False, PALETTE[channel % len(PALETTE)], 1, cv2.LINE_AA)
    return tile


def _bars(tile: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    width = tile.shape[1] - 8
    zero = _y(0.0, low, high)
    for place, value in enumerate(values.tolist()):
        left, right = (4 + round(width * edge / len(values)) for edge in (place + 0.1, place + 0.9))
        odd = not np.isfinite(value)
        top = _y(high if odd else value, low, high)
        cv2.rectangle(
            tile, (left, min(top, zero)), (max(left, right - 1), max(top, zero)), ODD if odd else PALETTE[0], -1
        )


def _polylines(values: np.ndarray, width: int, low: float, high: float) -> Iterator[np.ndarray]:
    """Yield the points of a line, int32 (points, 1, 2), from gap to gap; of many values, extremes stay."""
    if len(values) > 4 * width:
        values = _thinned(values, 2 * width)
    xs = np.linspace(3, width - 4, len(values))
    finite = np.isfinite(values)
    for run in np.split(np.arange(len(values)), np.flatnonzero(np.diff(finite)) + 1):
        if finite[run[0]]:
            ys = [_y(value, low, high) for value in values[run].tolist()]
            yield np.stack([np.round(xs[run]), ys], axis=1).astype(np.int32)[:, None]


def _thinned(values: np.ndarray, count: int) -> np.ndarray:
    """Return about `count` values: of each stretch the least and the largest."""
    stretches = np.array_split(values, count // 2)
    return np.asarray([extreme for stretch in stretches for extreme in (stretch.min(), stretch.max())])


def _y(value: float, low: float, high: float) -> int:
    return round((CHART - 8) * (1 - (value - low) / (high - low))) + 3
