"""Pictures whose pixels are numbers, not colours: masks of a segmentation.

OpenCV makes colours of a palette, and with them the class numbers are gone. So a PNG with a palette is handed to it
without: as the grey picture that its indices are.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from loader_service.dataset.sources.decoding import JPEG_MAGIC, decode_image, opencv_decode
from loader_service.protocol.errors import DatasetError

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
IHDR = slice(12, 29)  # its name and its content, after magic and length; its checksum follows
BIT_DEPTH, COLOR_TYPE = 24, 25  # places of one byte each
GREY, PALETTE = 0, 3


def decode_mask(encoded: bytes | memoryview) -> np.ndarray:
    """Return a mask, (height, width, 1): a palette's indices, or grey levels as they are stored, of 8 or 16 bits.

    Raises:
        DatasetError: If the bytes are no picture, or one of colours.
    """
    if encoded[: len(JPEG_MAGIC)] == JPEG_MAGIC:
        return decode_image(encoded, "grayscale")
    depth = 8
    is_png = encoded[: len(PNG_MAGIC)] == PNG_MAGIC
    if is_png and len(encoded) > IHDR.stop and encoded[COLOR_TYPE] == PALETTE:
        depth = encoded[BIT_DEPTH]
        encoded = _without_palette(bytes(encoded))
    decoded = opencv_decode(encoded, cv2.IMREAD_UNCHANGED)
    if decoded is None:
        what = "the file is empty" if not encoded else f"its {len(encoded):,} bytes are no picture that can be decoded"
        raise DatasetError(what)
    if decoded.ndim == 3:
        if (decoded[..., 1:3] != decoded[..., :1]).any():
            raise DatasetError(
                "it has colours, expected a mask: one number for each pixel, as grey or as the index of a palette. "
                "Leave its field out of masks=, to read it as a picture"
            )
        decoded = np.ascontiguousarray(decoded[..., 0])
    if depth < 8:
        decoded //= 255 // (2**depth - 1)  # OpenCV spreads few bits over 0 .. 255
    return decoded[:, :, None]


def _without_palette(encoded: bytes) -> bytes:
    """Return a PNG that has a palette as a grey one: its header says so, and of the chunks only the pixels are left."""
    header = encoded[IHDR.start : COLOR_TYPE] + bytes([GREY]) + encoded[COLOR_TYPE + 1 : IHDR.stop]
    parts = [encoded[: IHDR.start], header, zlib.crc32(header).to_bytes(4, "big")]
    start = IHDR.stop + 4
    while start < len(encoded):
        end = start + 12 + int.from_bytes(encoded[start : start + 4], "big")  # length, name, content, checksum
        if encoded[start + 4 : start + 8] in (b"IDAT", b"IEND"):
            parts.append(encoded[start:end])
        start = end
    return b"".join(parts)
