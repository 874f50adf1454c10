"""A contact sheet as plain data: which field of which sample is drawn where, in which range, and what is said below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from loader_service.dataset.preview.looks import (
    LABELS,
    Kind,
    Range,
    is_mask_of,
    is_share_of_classes,
    kind_of,
    labels_of,
    mask_of,
    number,
    seen,
    seen_of_mask,
    shown_range,
    told_of_planes,
)
from loader_service.dataset.preview.samples import ORIGINAL, Subject, headings_of
from loader_service.protocol.errors import DatasetError, nearest
from loader_service.protocol.spec import FieldSpec, describe

MOST_FIELDS = 4  # that are drawn of a sample, unless they are named
MOST_LEGEND = 12  # classes of masks whose colours are told
PATH_PARTS = 2  # of a file's path, that are shown


@dataclass(frozen=True)
class Context:
    """What is known of a dataset, beside its samples."""

    title: str
    classes: Sequence[str]
    targets: Sequence[str]  # fields, or groups of them, that a model is to learn
    masks: Sequence[str]  # fields that the source knows to be masks
    series: bool  # the first axis of a sample is time
    wanted: Sequence[str] = ()  # fields that are to be drawn; those that can be, where there are none
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """One field of one version of a sample."""

    field: str
    kind: Kind
    value: np.ndarray
    mask: np.ndarray | None
    found: Range
    shown: tuple[float, float]  # what is drawn black, and white; the ends of the axis, of lines and bars
    labels: list[str]  # below it
    facts: list[str]  # below these: dtype, shape, range


@dataclass(frozen=True)
class Strip:
    """One sample: lines of cells, one for each version."""

    id: int | None
    title: str
    cells: list[list[Cell | None]]


@dataclass(frozen=True)
class Sheet:
    """All of it."""

    title: str
    headings: list[str]
    strips: list[Strip]
    notes: list[str] = field(default_factory=list)
    legend: list[float] = field(default_factory=list)  # classes of masks

    def to_plain(self) -> dict[str, Any]:
        """Return what is told of the samples, without their values."""
        return {
            "title": self.title,
            "headings": self.headings,
            "samples": [
                {"id": strip.id, "name": strip.title, "cells": [self._line(line) for line in strip.cells]}
                for strip in self.strips
            ],
            "notes": self.notes,
        }

    def _line(self, line: list[Cell | None]) -> list[dict[str, Any] | None]:
        return [
            None
            if cell is None
            else {
                "field": cell.field,
                "kind": cell.kind,
                "dtype": str(cell.value.dtype),
                "shape": list(cell.value.shape),
                "range": [cell.found.low, cell.found.high],
                "shown": list(cell.shown),
                "mask": cell.mask is not None,
                "labels": cell.labels,
                "facts": cell.facts,
            }
            for cell in line
        ]


def lay_out(found: Sequence[Subject], context: Context) -> Sheet:
    """Decide what is drawn of each sample.

    Raises:
        DatasetError: If nothing can be; or if a field that is wanted is none, or cannot be.
    """
    drawn = [[_drawn(version.fields, context) for version in subject.versions] for subject in found]
    _check_something(found, drawn, context)
    ranges = _ranges(found, drawn)
    strips = []
    for subject, fields_of in zip(found, drawn, strict=True):
        lines: list[list[Cell | None]] = [[] for _ in range(max(map(len, fields_of)))]
        for version, names in zip(subject.versions, _aligned(fields_of, len(lines)), strict=True):
            masks = {name: _mask_name(name, version.fields, context) for name in names if name}
            shown = [*(name for name in names if name), *(mask for mask in masks.values() if mask)]
            labels = labels_of(version.fields, context.classes, shown)
            for line, name in zip(lines, names, strict=True):
                if name is None:
                    line.append(None)
                    continue
                overlay = masks[name] if masks[name] not in context.wanted else None
                group = ranges[version.heading == ORIGINAL, name]
                line.append(_cell(name, version.fields, overlay, group, labels, context))
                labels = []
        strips.append(Strip(subject.id, title_of(subject), lines))
    return Sheet(context.title, headings_of(found), strips, [*_notes(strips, ranges), *context.notes], _classes(strips))


def title_of(subject: Subject) -> str:
    """Return what a sample is called: by its id, and by its file or the like.

    >>> title_of(Subject(7, "/photos/cats/1.jpg", [])), title_of(Subject(7, "row 7", []))
    ('7   cats/1.jpg', 'row 7')
    """
    name = short_path(subject.name)
    return (
        name if subject.id is None or name.endswith((f" {subject.id}", f"[{subject.id}]")) else f"{subject.id}   {name}"
    )


def short_path(name: str) -> str:
    """Return the end of a file's path.

    >>> short_path("/home/me/photos/train/cats/1.jpg"), short_path("augment[3]")
    ('cats/1.jpg', 'augment[3]')
    """
    return "/".join(name.split("/")[-PATH_PARTS:]) if name.startswith("/") else name


# -- which fields ---------------------------------------------------------------------------------------------


def _drawn(fields: Mapping[str, Any], context: Context) -> list[str]:
    if context.wanted:
        return [name for name in context.wanted if name in fields and _kind(fields[name], context)]
    can_be = [name for name in fields if _kind(fields[name], context) and not _is_label(name, fields[name], context)]
    over = {mask for name in can_be if (mask := _mask_name(name, fields, context))}
    return [name for name in can_be if name not in over][:MOST_FIELDS]


def _kind(value: Any, context: Context) -> Kind | None:
    return kind_of(np.asarray(value), series=context.series)


def _is_label(name: str, value: Any, context: Context) -> bool:
    return name in LABELS and is_share_of_classes(name, np.asarray(value), context.classes)


def _mask_name(over: str, fields: Mapping[str, Any], context: Context) -> str | None:
    """Return the field that is a mask over another one."""
    picture = np.asarray(fields[over])
    if _kind(picture, context) not in ("picture", "planes") or _is_target(over, context) or over in context.masks:
        return None
    for name, value in fields.items():
        if name != over:
            target = _is_target(name, context)
            if is_mask_of(name, np.asarray(value), picture, known=context.masks, target=target):
                return name
    return None


def _is_target(name: str, context: Context) -> bool:
    return name.partition("/")[0] in context.targets


def _aligned(fields_of: Sequence[list[str]], lines: int) -> list[list[str | None]]:
    """Give each field a line: the same in all versions, if that can be."""
    places: dict[str, int] = {}
    for names in fields_of:
        taken = {places[name] for name in names if name in places}
        free = (line for line in range(lines) if line not in taken)
        for name in names:
            if name not in places:
                places[name] = next(free)
    aligned: list[list[str | None]] = []
    for names in fields_of:
        line_of = {places[name]: name for name in names}
        aligned.append([line_of.get(line) for line in range(lines)])
    return aligned


def _check_something(found: Sequence[Subject], drawn: list[list[list[str]]], context: Context) -> None:
    known = {name: value for subject in found for version in subject.versions for name, value in version.fields.items()}
    of_any = {name for lists in drawn for names in lists for name in names}
    for name in context.wanted:
        if name not in known:
            raise DatasetError(f"preview: there is no field {name!r}; {nearest(name, known)}")
        if name not in of_any:
            told = describe({name: FieldSpec.of(np.asarray(known[name]))}) if _plain(known[name]) else f"{name}: text"
            raise DatasetError(f"preview: {told}: there is nothing in it to draw; it is told below the other fields")
    if not of_any:
        arrays = {name: np.asarray(value) for name, value in known.items()}
        told = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in arrays.items())
        raise DatasetError(
            f"preview: there is nothing to draw in {told}: expected a picture, a volume, a series or a vector"
        )


def _plain(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "biuf"


# -- what is said of them -------------------------------------------------------------------------------------

Ranges = dict[tuple[bool, str], tuple[str, Range]]  # of originals or not, and a field: dtype, and range of all of them


def _ranges(found: Sequence[Subject], drawn: list[list[list[str]]]) -> Ranges:
    ranges: dict[tuple[bool, str], list[np.ndarray]] = {}
    for subject, fields_of in zip(found, drawn, strict=True):
        for version, names in zip(subject.versions, fields_of, strict=True):
            for name in names:
                ranges.setdefault((version.heading == ORIGINAL, name), []).append(np.asarray(version.fields[name]))
    return {
        key: (str(values[0].dtype), reduce(or_, (Range.of(seen(value)) for value in values)))
        for key, values in ranges.items()
    }


def _cell(
    name: str,
    fields: Mapping[str, Any],
    overlay: str | None,
    group: tuple[str, Range],
    labels: list[str],
    context: Context,
) -> Cell:
    value = np.asarray(fields[name])
    kind = _kind(value, context)
    assert kind is not None, "others are not drawn"
    mask = None if overlay is None else mask_of(np.asarray(fields[overlay]), value)
    found = Range.of(seen(value))
    shape = "x".join(map(str, value.shape)) if value.ndim > 1 else f"({len(value)},)"
    told = [f"{name}: {value.dtype} {shape}", f"{found}"]
    if kind == "planes":
        told[1] += f"{';' if seen(value) is value else ' in the'} {told_of_planes(value)}"
    if mask is not None:
        told.append(f"{overlay}: {_values(seen_of_mask(mask, value))}")
    return Cell(name, kind, value, mask, found, shown_range(*group), _joined(labels), told)


def _joined(labels: list[str]) -> list[str]:
    """Put short labels on one line."""
    return [] if not labels else [labels[0]] if len(labels) == 1 else [labels[0], ", ".join(labels[1:])]


def _values(mask: np.ndarray) -> str:
    values = np.unique(mask)
    told = ", ".join(number(value) for value in values[:6].tolist())
    return f"{told}, ..." if len(values) > 6 else told


def _notes(strips: Sequence[Strip], ranges: Ranges) -> list[str]:
    """Say how values became grey, where that is not as it always is."""
    cells = [cell for strip in strips for line in strip.cells for cell in line if cell is not None]
    notes = []
    for (original, name), (dtype, found) in ranges.items():
        low, high = shown_range(dtype, found)
        if not original and ranges.get((True, name)) == (dtype, found):
            continue  # it was said of the originals
        apart = original and (False, name) in ranges and ranges[False, name] != (dtype, found)
        where = ", in the originals" if apart else ""
        pictures = any(cell.field == name and cell.kind in ("picture", "planes") for cell in cells)
        if pictures and (dtype, low, high) not in (("uint8", 0.0, 255.0), ("bool", 0.0, 1.0)):
            notes.append(f"{name}{where}: {dtype}, drawn from {number(low)} (black) to {number(high)} (white)")
        charts = {cell.kind for cell in cells if cell.field == name and cell.kind in ("lines", "bars")}
        if charts:
            notes.append(f"{name}{where}: {' and '.join(sorted(charts))} from {number(low)} to {number(high)}")
    if any(cell.found.odd for cell in cells):
        notes.append("NaN and infinite values are drawn in magenta; in lines, they are gaps")
    return notes


def _classes(strips: Sequence[Strip]) -> list[float]:
    cells = [cell for strip in strips for line in strip.cells for cell in line if cell is not None]
    masks = [seen_of_mask(cell.mask, cell.value) for cell in cells if cell.mask is not None]
    return sorted({value for mask in masks for value in np.unique(mask).tolist() if value})[:MOST_LEGEND]
