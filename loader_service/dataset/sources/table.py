"""Files and labels that a table names: a CSV file, text lines `path label`, or a table in memory.

A file is read by whoever makes the index. A table in memory is anything that gives a column for its name: a pandas or
polars frame, a dict of lists; none of these libraries is imported for it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from loader_service.dataset.sources.files import (
    FilesSource,
    Keep,
    PathLike,
    absolute_root,
    check_paths,
    field_of,
    index_files,
    kept_columns,
)
from loader_service.dataset.sources.labels import LABEL, Column, label_columns, stacked
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.protocol.errors import DatasetError, nearest

PATH = "path"  # the column of paths, where nothing is said; the first word of a text line
CSV = (".csv", ".tsv")
DELIMITERS = ",;\t"

FileColumns = str | Mapping[str, str]  # a column of paths; or field -> column
LabelColumns = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None
Cells = Callable[[str], Any]  # the values of a column, by its name


class Table(FilesSource):
    """The files that a CSV file lists, or a text file of lines `path label`."""

    kind: Literal["table"] = "table"
    path: Annotated[str, Field(description="CSV file, or lines of text: path label; relative to the config.")]
    files: Annotated[
        str | dict[str, str], Field(description="The column of paths; or, for several fields, field -> column.")
    ] = PATH
    labels: Annotated[
        str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None,
        Field(description="The column of labels; several, for one array of numbers; or field -> column, or columns."),
    ] = None
    classes: Annotated[
        tuple[str, ...] | None, Field(description="Classes in the order of their numbers; sorted if nothing is said.")
    ] = None
    root: Annotated[
        str | None,
        Field(description="Folder that paths in the table are relative to: the table's own, if nothing is said."),
    ] = None

    @property
    def folder(self) -> str:
        """Where relative paths lead: beside the table, if nothing else is said."""
        return self.root or str(Path(self.path).parent)

    def make_index(self, table: ReadTable) -> Index:
        """Read the table, and look its files up."""
        try:
            cells = _csv_cells(self.path) if self.path.lower().endswith(CSV) else _line_cells(self.path, self.labels)
            listed, columns = _chosen(cells, self.files, self.labels, self.classes)
        except OSError as error:
            raise DatasetError(f"table {self.path!r} cannot be read: {error.strerror}") from error
        except DatasetError as error:
            raise DatasetError(f"table {self.path!r}: {error}") from error
        return index_files(self.folder, listed, columns)


def declare_rows(
    table: Any,
    files: FileColumns,
    labels: LabelColumns,
    root: PathLike | None,
    classes: Sequence[str] | None,
    keep: Keep,
) -> dict[str, Any]:
    """Return the options of `Files`, for a table in memory.

    Raises:
        DatasetError: If it has no such column; names the path or the label that is wrong.
    """
    names = [str(name) for name in _names(table)]
    if not names:
        raise DatasetError(
            f"from_table: the table is {type(table).__name__}, expected the path of a CSV or text file, a frame of "
            "pandas' or polars', or a dict from column to values"
        )

    def cells(name: str) -> Any:
        return np.asarray(table[_known(name, names)]) if not isinstance(table, Mapping) else table[_known(name, names)]

    listed, columns = _chosen(cells, files, labels, classes)
    return {"root": absolute_root(root), **kept_columns(listed, columns, keep)}


def _names(table: Any) -> Iterable[Any]:
    """Return the names of its columns: as pyarrow, as pandas and polars, or as a dict has them."""
    for name in ("column_names", "columns"):
        if hasattr(table, name):
            return list(getattr(table, name))
    return table if isinstance(table, Mapping) else ()


def _chosen(
    cells: Cells, files: FileColumns, labels: LabelColumns, classes: Sequence[str] | None
) -> tuple[dict[str, list[str]], dict[str, Column]]:
    """Return the paths and the labels that a table holds, by field."""
    named = {PATH: files} if isinstance(files, str) else files
    listed = {field: _as_paths(column, cells(column)) for field, column in named.items()}
    check_paths(listed)
    if isinstance(files, str):
        listed = {field_of(listed[PATH][0]): listed[PATH]}
    paths = next(iter(listed.values()))
    wanted = labels if isinstance(labels, Mapping) else {} if labels is None else {LABEL: labels}
    given = {
        field: cells(columns) if isinstance(columns, str) else stacked(field, ((c, cells(c)) for c in columns), paths)
        for field, columns in wanted.items()
    }
    return listed, label_columns(given, paths, classes)


def _as_paths(column: str, values: Any) -> list[str]:
    paths = list(values)
    for row, path in enumerate(paths):
        if not isinstance(path, str) or not path:
            raise DatasetError(f"column {column!r}, row {row:,}: {path!r}, expected the path of a file")
    return [str(path) for path in paths]


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise DatasetError(
            f"there is no column {name!r} (path= and labels= name columns, labels=None reads none); "
            f"{nearest(name, names)}"
        )
    return name


# -- tables in files ----------------------------------------------------------------------------------------------


def _csv_cells(path: str) -> Cells:
    """Read a CSV file, whose first line names the columns; commas, semicolons or tabs stand between them."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = file.readline()
        file.seek(0)
        lines = csv.reader(file, delimiter=max(DELIMITERS, key=header.count))
        names = [name.strip() for name in next(lines, [])]
        rows = []
        for row in lines:
            if len(row) == len(names):
                rows.append(row)
            elif row:
                raise DatasetError(f"line {lines.line_num:,} has {len(row)} cells, its first line {len(names)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"two columns are named {twice!r}")

    def cells(name: str) -> Any:
        number = names.index(_known(name, names))
        return _values([row[number] for row in rows])

    return cells


def _line_cells(path: str, labels: Any) -> Cells:
    """Read lines of a path and a label, or of a path alone; a blank, or a tab, stands between them."""
    if labels not in (LABEL, None):
        raise DatasetError(
            f"labels={labels!r} names columns, which a file ending in {' or '.join(CSV)} has; "
            "lines of text have a path and a label, or with labels=None a path alone"
        )
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]
    if labels is None:
        return {PATH: [line for _, line in lines]}.__getitem__
    rows = [(number, line.split("\t") if "\t" in line else line.rsplit(None, 1)) for number, line in lines]
    for number, row in rows:
        if len(row) != 2:
            raise DatasetError(f"line {number:,} is {' '.join(row)!r}, expected a path and a label; or labels=None")
    columns = {PATH: [row[0].strip() for _, row in rows], LABEL: _values([row[1].strip() for _, row in rows])}

    def cells(name: str) -> Any:
        return columns[_known(name, list(columns))]

    return cells


def _values(cells: list[str]) -> Any:
    """Return a column's text as numbers, where all of it is; what is empty is missing."""
    cells = [cell.strip() for cell in cells]
    if "" in cells:
        return np.array([cell or None for cell in cells], object)
    if any("_" in cell for cell in cells):  # which Python reads as a part of a number
        return cells
    for read, dtype in ((int, np.int64), (float, np.float64)):
        with suppress(ValueError, OverflowError):
            return np.fromiter(map(read, cells), dtype, len(cells))
    return cells
