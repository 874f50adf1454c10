"""A contact sheet -> one RGB picture: tiles in columns, what is said of them below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loader_service.dataset.preview.drawing import PAPER, SIDE, Color, color_of_class, draw, width_of
from loader_service.dataset.preview.looks import number
from loader_service.dataset.preview.sheet import Cell, Sheet, Strip
from loader_service.dataset.preview.writing import LINE, fitted, write
from loader_service.dataset.preview.writing import width_of as text_width

MARGIN = 16  # pixels
GUTTER = 12  # between columns
INK, FAINT = (30, 33, 38), (105, 110, 118)
SWATCH = 10  # pixels of a square that shows a colour
COLUMNS = 5  # of samples that have one version only

Box = tuple[np.ndarray, int, int]  # a picture, and where its upper left corner is


def paint(sheet: Sheet) -> np.ndarray:
    """Return the sheet, uint8 (height, width, 3)."""
    width = max([SIDE, *(width_of(cell) for strip in sheet.strips for cell in _cells(strip))])
    alone = len(sheet.headings) == 1
    columns = min(COLUMNS, len(sheet.strips)) if alone else len(sheet.headings)
    page = _Page(columns, width)
    page.write(sheet.title, bold=True)
    if not alone:
        page.write_columns(sheet.headings, bold=True)
    for start in range(0, len(sheet.strips), columns if alone else 1):
        if alone:
            page.add_beside(sheet.strips[start : start + columns])
        else:
            page.add(sheet.strips[start])
    page.space(MARGIN // 2)
    if sheet.legend:
        page.write_legend([(color_of_class(value), number(value)) for value in sheet.legend])
    for note in sheet.notes:
        page.write(note, color=FAINT)
    return page.finished()


def _cells(strip: Strip) -> list[Cell]:
    return [cell for line in strip.cells for cell in line if cell is not None]


class _Page:
    """Grows downwards."""

    def __init__(self, columns: int, width: int) -> None:
        self._column = width
        self._lefts = [MARGIN + column * (width + GUTTER) for column in range(columns)]
        self._width = 2 * MARGIN + columns * (width + GUTTER) - GUTTER
        self._y = MARGIN
        self._texts: list[tuple[str, int, int, tuple[int, int, int], bool]] = []
        self._boxes: list[Box] = []

    def space(self, pixels: int) -> None:
        self._y += pixels

    def write(self, text: str, *, color: tuple[int, int, int] = INK, bold: bool = False) -> None:
        """Write a line across the page."""
        self._put(text, 0, self._y, self._width - 2 * MARGIN, color, bold)
        self._y += LINE

    def write_columns(self, texts: Sequence[str], *, bold: bool = False) -> None:
        """Write one line above each column."""
        self.space(4)
        for column, text in enumerate(texts):
            self._put(text, column, self._y, self._column, INK, bold)
        self._y += LINE

    def write_legend(self, classes: Sequence[tuple[Color, str]]) -> None:
        """Write the names of a mask's classes, each beside a square of its colour."""
        x = self._lefts[0]
        for color, name in classes:
            if x + SWATCH + text_width(name) > self._width - MARGIN:
                break
            self._boxes.append((np.full((SWATCH, SWATCH, 3), color, np.uint8), x, self._y + 3))
            self._texts.append((name, x + SWATCH + 4, self._y, FAINT, False))
            x += SWATCH + text_width(name) + GUTTER
        self._y += LINE

    def add(self, strip: Strip) -> None:
        """Put a sample below all that is there: its versions stand beside one another."""
        self.space(8)
        self.write(strip.title, color=FAINT)
        for line in strip.cells:
            self._add_line(line)

    def add_beside(self, strips: Sequence[Strip]) -> None:
        """Put samples that have one version below all that is there, beside one another."""
        self.space(8)
        for column, strip in enumerate(strips):
            self._put(strip.title, column, self._y, self._column, FAINT, False)
        self._y += LINE
        for line in range(max(len(strip.cells) for strip in strips)):
            self._add_line([strip.cells[line][0] if line < len(strip.cells) else None for strip in strips])

    def finished(self) -> np.ndarray:
        """Return the page."""
        page = np.full((self._y + MARGIN, self._width, 3), PAPER, np.uint8)
        for tile, x, y in self._boxes:
            page[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        for text, x, y, color, bold in self._texts:
            write(page, text, x, y, color, bold=bold)
        return page

    def _add_line(self, cells: Sequence[Cell | None]) -> None:
        tiles = [None if cell is None else draw(cell, self._column) for cell in cells]
        below = self._y + max(0 if tile is None else tile.shape[0] for tile in tiles) + 2
        for column, tile in enumerate(tiles):
            if tile is not None:
                self._boxes.append((tile, self._lefts[column], self._y))
        for column, cell in enumerate(cells):
            for place, text in enumerate(() if cell is None else (*cell.labels, *cell.facts)):
                is_label = cell is not None and place < len(cell.labels)
                color = INK if is_label else FAINT
                self._put(text, column, below + place * LINE, self._column, color, is_label)
        lines = max(0 if cell is None else len(cell.labels) + len(cell.facts) for cell in cells)
        self._y = below + lines * LINE + 4

    def _put(self, text: str, column: int, y: int, width: int, color: tuple[int, int, int], bold: bool) -> None:
        self._texts.append((fitted(text, width), self._lefts[column], y, color, bold))
