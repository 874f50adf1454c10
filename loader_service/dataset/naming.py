"""Whatever the making of a sample raises -> an error that names the sample."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from loader_service.protocol.errors import LoaderError, NotEnoughMemory, SampleError, SpecMismatch
from loader_service.protocol.ledger import error_about, sample_of


class Naming:
    """Turns whatever a sample raises into an error that names it; costs nothing while nothing is raised."""

    __slots__ = ("_describe", "_sample_id")

    def __init__(self, describe: Callable[[int], str], sample_id: int) -> None:
        self._describe, self._sample_id = describe, sample_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, where: Any) -> None:
        if error is None or not isinstance(error, Exception) or sample_of(error) is not None:
            return
        if isinstance(error, NotEnoughMemory):  # no fault of the sample's
            return
        told = str(error) if isinstance(error, LoaderError) else f"{type(error).__name__}: {error}"
        kind = SpecMismatch if isinstance(error, SpecMismatch) else SampleError
        named = error_about(self._sample_id, self._describe(self._sample_id), told, kind)
        if not isinstance(error, LoaderError):
            named.add_note("".join(traceback.format_exception(error)))
        raise named from error
