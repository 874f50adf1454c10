"""Text into pictures, with OpenCV. From version 5 on it writes in all scripts; before, in ASCII alone.

Where it knows only ASCII, letters lose their accents, and all others become question marks.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import cv2
import numpy as np

HAS_FONTS = hasattr(cv2, "FontFace")
SIZE = 12  # pixels, of a font
LINE = 16  # pixels from one line to the next
BASE = 12  # pixels from the top of a line to what letters stand on
THIN, BOLD = 400, 600
SCALE = 0.4  # of OpenCV's stroked letters
SPELT = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "ł": "l", "Ł": "L", "…": "..."})


def write(picture: np.ndarray, text: str, x: int, y: int, color: tuple[int, int, int], *, bold: bool = False) -> None:
    """Write a line whose upper left corner is at (x, y)."""
    text = writable(text)
    if HAS_FONTS:
        cv2.putText(picture, text, (x, y + BASE), color, _font(), SIZE, weight=BOLD if bold else THIN)
    else:
        cv2.putText(picture, text, (x, y + BASE), cv2.FONT_HERSHEY_SIMPLEX, SCALE, color, 1, cv2.LINE_AA)


def width_of(text: str) -> int:
    """Return how many pixels a line takes."""
    text = writable(text)
    if HAS_FONTS:
        # The size that it asks for is that of a picture, where lines would be broken: none is as wide as this.
        _, _, width, _ = cv2.getTextSize((1 << 20, 1 << 10), text, (0, 0), _font(), SIZE, weight=BOLD)
        return int(width)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, SCALE, 1)
    return int(width)


def fitted(text: str, width: int) -> str:
    """Return a text that takes no more pixels than that: cut, with an ellipsis, where it is too long."""
    if width_of(text) <= width:
        return text
    least, most = 0, len(text)  # characters that are left
    while least < most:
        middle = (least + most + 1) // 2
        if width_of(_cut(text, middle)) <= width:
            least = middle
        else:
            most = middle - 1
    return _cut(text, least)


def writable(text: str) -> str:
    """Return a text as it can be written.

    >>> HAS_FONTS or writable("Käse, Straße, 猫") == "Kase, Strasse, ?"
    True
    """
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if HAS_FONTS else ascii_of(text)


def ascii_of(text: str) -> str:
    """Return a text in ASCII.

    >>> ascii_of("Käse, Straße, 猫")
    'Kase, Strasse, ?'
    """
    plain = unicodedata.normalize("NFKD", text.translate(SPELT))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


def _cut(text: str, letters: int) -> str:
    return f"{text[:letters].rstrip()}…"


@cache
def _font() -> Any:
    return cv2.FontFace("sans")
