"""Files that belong together by their names: `images/image_001.png`, `labels/label_001.npy`, `masks/001.png`."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from loader_service.dataset.sources.files import FilesSource, check_paths, index_files
from loader_service.dataset.sources.source import Index, ReadTable
from loader_service.protocol.errors import DatasetError

TOLD = 3  # ids without a partner that an error names


class PairedFiles(FilesSource):
    """For each field a pattern with one `*`, which is what a sample's files have in common; `**/*` spans folders."""

    kind: Literal["paired_files"] = "paired_files"
    fields: Annotated[
        dict[str, str],
        Field(
            min_length=1, description="Field -> pattern with one *, as in images/image_*.png; relative to the config."
        ),
    ]

    @field_validator("fields")
    @classmethod
    def _one_star(cls, fields: dict[str, str]) -> dict[str, str]:
        for pattern in fields.values():
            if pattern.replace("**/*", "*").count("*") != 1:
                raise ValueError(f"{pattern!r} needs one *, for what the files of a sample have in common")
        return fields

    def make_index(self, table: ReadTable) -> Index:
        """Find the files of each field, and match them."""
        found = {field: _files_by_id(field, pattern) for field, pattern in self.fields.items()}
        self._refuse_unmatched(found)
        first = next(iter(found.values()))
        listed = {field: [files[id_] for id_ in sorted(first)] for field, files in found.items()}
        check_paths(listed)
        return index_files(self.folder, listed, {})

    def _refuse_unmatched(self, found: dict[str, dict[str, str]]) -> None:
        ids = set().union(*found.values())
        told = []
        for field, files in found.items():
            missing = sorted(ids - files.keys())
            if missing:
                expected = self.fields[field].replace("**/*", "*").replace("*", missing[0])
                told.append(
                    f"{len(missing):,} of {len(ids):,} have none for the field {field!r}: "
                    f"{', '.join(map(repr, missing[:TOLD]))}{', ...' if len(missing) > TOLD else ''} "
                    f"(expected {expected!r})"
                )
        if told:
            raise DatasetError(
                f"files without a partner: {'; '.join(told)}. Add what is missing, or list those that belong "
                "together: Dataset.from_files({field: [path, ...], ...})"
            )


def _files_by_id(field: str, pattern: str) -> dict[str, str]:
    """Return what the star of a pattern stands for -> the file."""
    deep = "**/*" in pattern
    head, tail = pattern.split("**/*" if deep else "*")
    wild = f"{glob.escape(head)}{'**/*' if deep else '*'}{glob.escape(tail)}"
    like = re.compile(f"{re.escape(head)}({'.+' if deep else '[^/]+'}){re.escape(tail)}", re.DOTALL)
    files = {}
    for path in glob.iglob(wild, recursive=True):  # noqa: PTH207 - as text
        matched = like.fullmatch(path)
        if matched and Path(path).is_file():
            files[matched[1]] = path
    if not files:
        raise DatasetError(f"no file matches the pattern of the field {field!r}: {pattern!r}")
    return files
