"""What the state of a stream is, and what a state that does not fit is told. No I/O.

    {"version": 1, "key": ..., "n": 1234, "parts": {"order": "seed 7", "batch": "64 rows, keep", ...}}

`key` and `n` are all that counts. `parts` are for people: where keys differ, they tell what has changed. Keys beside
these are not looked at.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Any

from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import DatasetInfo

VERSION = 1
MOST = 2**62  # batches; half of what a message can count: numbers beyond it are asked for ahead

CHANGED = {
    "source": "the source has changed",
    "index": "the files that the source reads have changed",
    "transforms": "the transforms have changed",
    "order": "the order has changed",
    "batch": "the batches have changed",
    "bad samples": "what becomes of bad samples has changed",
    "code": "the code of its modules has changed",
}
UNKNOWN = "its files, its transforms or the code that it names have changed"


def state_of(info: DatasetInfo, n: int) -> dict[str, Any]:
    """Return the state of a stream that hands out batch `n` next: plain JSON of some hundred bytes."""
    return {"version": VERSION, "key": info.key, "n": n, "parts": dict(info.parts)}


def number_in(state: Any, info: DatasetInfo, *, strict: bool) -> int:
    """Return the batch that a state says is next.

    Args:
        strict: Refuse a state of another dataset.
    Raises:
        DatasetError: If it is no state of this dataset; says what is wrong with it, or what has changed.
    """
    refuse_live(info)
    if not isinstance(state, dict):
        raise DatasetError(
            f"a state is a dict, as state_dict() returns it, and this is no state of a stream: {reprlib.repr(state)}"
        )
    missing = [name for name in ("version", "key", "n") if name not in state]
    if missing:
        raise DatasetError(
            f"this is no state of a stream, or a part of one: {', '.join(map(repr, missing))} is missing "
            f"in {reprlib.repr(state)}"
        )
    if state["version"] != VERSION:
        raise DatasetError(
            f"the state has version {state['version']!r}, and version {VERSION} is what this loader_client reads: "
            "load it with the version of loader-service that it was saved with"
        )
    n = state["n"]
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MOST:
        raise DatasetError(f"the state says that batch {n!r} is next: expected a whole number from 0 to 2**62")
    if strict and state["key"] != info.key:
        raise DatasetError(
            f"the state belongs to another dataset: {difference(state, info)}. Give the stream the dataset as it was, "
            f"or go on with batch {n} of this one: load_state_dict(state, strict=False)"
        )
    return n


def refuse_live(info: DatasetInfo) -> None:
    """See to it that a stream can be resumed.

    Raises:
        DatasetError: If its dataset is read live.
    """
    if info.live:
        raise DatasetError(
            "this dataset is read live, so there is no batch to go on with: what it gives next depends on all that it "
            "gave before. Only a source that is read by index can be resumed: from_python, from_keras, from_files"
        )


def difference(state: dict[str, Any], info: DatasetInfo) -> str:
    """Return what has changed since a state was saved, in words."""
    before = state.get("parts")
    told = [*_changes(before, info.parts)] if isinstance(before, dict) else []
    return "; ".join(told) or f"{UNKNOWN} (its key is {state['key']!r}, now {info.key!r})"


def _changes(before: dict[str, Any], now: dict[str, str]) -> Iterator[str]:
    for part in [part for part in now if part in before and before[part] != now[part]]:
        was, is_ = (str(parts[part]).partition("#")[0].strip() for parts in (before, now))
        told = CHANGED.get(part, f"the {part.replace('code of', 'code of module')} has changed")
        if was != is_:
            told += f": {was}, now {is_}"
        elif was:
            told += f": {was}, with other arguments"
        if part == "batch":
            told += ", so that numbers count other batches"
        yield told
