"""What has changed in a source since a pack of it was begun: then the two halves would not belong together."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loader_service.dataset.packing.journal import Plan, Written
from loader_service.dataset.sources.contents import Contents
from loader_service.protocol.errors import DatasetError

TOLD = 3  # files that an error names
SAID = {
    "version": "another version of loader-service",
    "source": "another source, or other options of it",
    "decode": "the opposite of --decode",
}


def refuse_changes(path: str, before: Plan, now: Plan, written: Mapping[str, Written], contents: Contents) -> None:
    """Compare what was begun with what is there now.

    Raises:
        DatasetError: Names the files that have changed, are new, or are gone.
    """
    for what, told in SAID.items():
        if before[what] != now[what]:
            raise DatasetError(f"{path!r} was begun with {told}: --force begins anew, or -o names another file")
    found = []
    for field in contents.files:
        old, new = (plan["paths"][field].split(b"\0") for plan in (before, now))
        if old != new:
            found += _named(set(old) - set(new), "gone") + _named(set(new) - set(old), "new")
            found = found or ["the order of its files is another one"]
        elif field in written:
            found += _named(_changed(written[field], old), "other than it was")
    if not found and before["labels"] != now["labels"]:
        found.append("its labels are others")
    if found:
        raise DatasetError(
            f"the source has changed since {path!r} was begun: {'; '.join(found)}. "
            "--force begins anew with what is there"
        )


def _changed(written: Written, paths: list[bytes]) -> set[bytes]:
    """Return the files that are not as they were when they were read."""
    table = written.table
    changed = set()
    for path, size, mtime_ns in zip(paths, table["size"].tolist(), table["mtime_ns"].tolist(), strict=False):
        try:
            stat = os.stat(path)  # noqa: PTH116 - a million times
        except OSError:
            changed.add(path)
            continue
        if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
            changed.add(path)
    return changed


def _named(paths: set[bytes], what: str) -> list[str]:
    if not paths:
        return []
    first = ", ".join(repr(os.fsdecode(path)) for path in sorted(paths)[:TOLD])
    more = f" and {len(paths) - TOLD:,} more" if len(paths) > TOLD else ""
    return [f"{first}{more} {'is' if len(paths) == 1 else 'are'} {what}"]
