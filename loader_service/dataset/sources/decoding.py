"""Encoded pictures -> pixels: JPEG with libjpeg-turbo, all else with OpenCV; Exif orientation is not applied.

Common JPEGs are decoded by the kernel, in part or as a whole; what it refuses, and all where there is none, goes to
simplejpeg.
"""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
import simplejpeg
from pydantic import AfterValidator, Field

from loader_service.dataset.sources.jpeg_region import Part, kernel
from loader_service.protocol.errors import DatasetError

JPEG_MAGIC = b"\xff\xd8\xff"
LEAST_SHRUNK = 16  # pixels of a side: of smaller pictures, simplejpeg does not tell an eighth from a quarter

Color = Literal["rgb", "grayscale", "rgba"]
Encoded = bytes | memoryview
ShrinkOnLoad = Annotated[
    bool | None,
    AfterValidator(lambda shrinks: shrinks or None),  # so that it is in no key where it is not wanted
    Field(description="Whether JPEGs that are scaled down by 2 or more are decoded at a half, a quarter or an eighth."),
]
FLAGS: dict[Color, int] = {
    "rgb": cv2.IMREAD_COLOR_RGB,
    "grayscale": cv2.IMREAD_GRAYSCALE,
    "rgba": cv2.IMREAD_UNCHANGED,
}
JPEG_COLORS: dict[Color, str] = {"rgb": "RGB", "grayscale": "GRAY", "rgba": "RGBA"}
CHANNELS: dict[Color, int] = {"rgb": 3, "grayscale": 1, "rgba": 4}


class EncodedJpeg:
    """A JPEG whose size is known, and of which only what is looked at is decoded."""

    __slots__ = ("_color", "_encoded", "shape", "shrinks")

    def __init__(self, encoded: Encoded, color: Color, size: tuple[int, int], *, shrinks: bool) -> None:
        """Take what its header says.

        Args:
            shrinks: Whether it may be decoded in a smaller size.
        """
        self._encoded, self._color = encoded, color
        self.shape = (*size, CHANNELS[color])
        self.shrinks = shrinks

    def decode(self, top: int, left: int, height: int, width: int, shrink: int = 1) -> np.ndarray:
        """Return a part of the picture, scaled down by `shrink`; in pixels of what it is then.

        The pixels are those of the whole picture there. What is damaged behind the part is not seen.

        Raises:
            DatasetError: If it is damaged as far as it was read.
        """
        decoder = kernel()
        rows, columns = (-(-side // shrink) for side in self.shape[:2])
        if decoder is not None:
            part = np.empty((height, width, self.shape[2]), np.uint8)
            in_part = (height, width) != (rows, columns)
            if decoder.region(self._encoded, shrink, top, left, part, remember=in_part) is not None:
                return part
        return self._whole(rows, columns, shrink)[top : top + height, left : left + width]

    def decode_scaled(self, part: Part, target: tuple[int, ...], out: np.ndarray) -> np.ndarray | None:
        """Decode a part of the picture, and scale it bilinearly, while it is in the cache: see `Kernel.scaled`.

        Returns:
            `out`; None where it has to be decoded first, or is damaged.
        """
        decoder = kernel()
        if decoder is None or self.shape[2] < 3:
            return None
        in_part = part[2:] != self.shape[:2]
        return decoder.scaled(self._encoded, part, target, out, remember=in_part)

    def _whole(self, rows: int, columns: int, shrink: int) -> np.ndarray:
        if shrink > 1:
            try:
                colors, sides = JPEG_COLORS[self._color], {"min_height": rows, "min_width": columns}
                shrunk: np.ndarray = simplejpeg.decode_jpeg(self._encoded, colors, **sides, strict=True)
                return shrunk
            except ValueError:
                pass  # damaged, or rare: as below
        pixels = _decode_without_kernel(self._encoded, self._color)
        if shrink > 1:
            pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA).reshape(rows, columns, -1)
        return pixels


def reads_encoded(shrinks: bool) -> bool:
    """Whether anything is gained by leaving JPEGs encoded until it is known which part of them is wanted."""
    return shrinks or kernel() is not None


def left_encoded(encoded: Encoded, color: Color, *, shrinks: bool) -> EncodedJpeg | np.ndarray:
    """Return a picture of which parts can be decoded; or all its pixels, where that is as good.

    Raises:
        DatasetError: As `decode_image`.
    """
    if encoded[: len(JPEG_MAGIC)] == JPEG_MAGIC:
        decoder = kernel()
        size = None if decoder is None else decoder.size(encoded)
        if size is None and shrinks:
            size = _size(encoded)
        if size is not None:
            return EncodedJpeg(encoded, color, size, shrinks=shrinks and min(size) >= LEAST_SHRUNK)
    return _decode_without_kernel(encoded, color)


def _size(encoded: Encoded) -> tuple[int, int] | None:
    """Return height and width, whatever kind of JPEG it is; None if its header is damaged, or rare."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(encoded, strict=True)
    except ValueError:
        return None
    return int(height), int(width)


def decode_image(encoded: Encoded, color: Color) -> np.ndarray:
    """Return a picture as uint8 (height, width, 3) RGB, (height, width, 4) with alpha, or (height, width, 1).

    Raises:
        DatasetError: If the bytes are no picture, or only a part of one.
    """
    picture = left_encoded(encoded, color, shrinks=False)
    return picture.decode(0, 0, *picture.shape[:2]) if isinstance(picture, EncodedJpeg) else picture


def _decode_without_kernel(encoded: Encoded, color: Color) -> np.ndarray:
    if encoded[: len(JPEG_MAGIC)] == JPEG_MAGIC:
        try:
            pixels: np.ndarray = simplejpeg.decode_jpeg(encoded, colorspace=JPEG_COLORS[color], strict=True)
        except ValueError as error:
            return _decode_rare_jpeg(encoded, color, reason=str(error))
        return pixels
    decoded = _decode_other(encoded, color)
    if decoded is None:
        what = "the file is empty" if not encoded else f"its {len(encoded):,} bytes are no picture that can be decoded"
        raise DatasetError(what)
    return decoded


def _decode_rare_jpeg(encoded: Encoded, color: Color, *, reason: str) -> np.ndarray:
    """Decode what libjpeg-turbo cannot turn into RGB (CMYK), and refuse what is damaged."""
    damaged = any(word in reason.lower() for word in ("premature", "corrupt", "truncat", "extraneous", "bogus"))
    decoded = None if damaged else _decode_other(encoded, color)
    if decoded is None:
        raise DatasetError(f"the JPEG is damaged: {reason}")
    return decoded


def _decode_other(encoded: Encoded, color: Color) -> np.ndarray | None:
    decoded = opencv_decode(encoded, FLAGS[color])
    if decoded is None or color == "rgb":
        return decoded
    if color == "grayscale":
        return decoded[:, :, None]
    if decoded.ndim == 3 and decoded.shape[2] == 4:
        if decoded.dtype == np.uint16:
            decoded = (decoded >> 8).astype(np.uint8)  # as OpenCV makes bytes of them in all other cases
        if decoded.dtype == np.uint8:
            with_alpha: np.ndarray = cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)
            return with_alpha
    opaque = opencv_decode(encoded, cv2.IMREAD_COLOR_RGB)
    return None if opaque is None else np.asarray(cv2.cvtColor(opaque, cv2.COLOR_RGB2RGBA))


def opencv_decode(encoded: Encoded, flags: int) -> np.ndarray | None:
    """Return what OpenCV makes of a file, Exif orientation not applied; None if that is nothing."""
    if not encoded:
        return None
    try:
        decoded: np.ndarray | None = cv2.imdecode(
            np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None
    return decoded
