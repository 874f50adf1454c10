"""A part of a declaration -> its index, and the selection of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loader_service.dataset.selection.candidates import Candidates
from loader_service.dataset.selection.selection import Selection
from loader_service.dataset.sources.source import Index, Reader, ReadTable, as_sub_index, sub_index
from loader_service.dataset.transforms.map import globals_kept

if TYPE_CHECKING:  # which names all steps, and so imports this
    from loader_service.dataset.declaration import Part


def make_index(part: Part, table: ReadTable) -> Index:
    """List what there is to read, and whatever must be known to select from it; once for each dataset."""
    index = part.source.make_index(table)
    if not part.select:
        return index
    reader = part.source.reader(index, table)
    selection, names = part.source.selection(reader, index, seed=0), part.source.class_names(index)
    for number, step in enumerate(part.select):
        with globals_kept():
            made = step.make_index(Candidates(part.source.readers(reader), selection, names), table)
        index |= as_sub_index(_name(number), made)
        selection = step.apply(selection, made, seed=0)
    return index


def select(part: Part, reader: Reader, index: Index, seed: int) -> Selection:
    """Return which samples there are; `seed` is that of the dataset's order."""
    selection = part.source.selection(reader, index, seed)
    for number, step in enumerate(part.select):
        selection = step.apply(selection, sub_index(index, _name(number)), seed)
    return selection


def _name(number: int) -> str:
    return f"select.{number}"
