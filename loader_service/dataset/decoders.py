"""Which steps decode the pictures of files themselves, because they may need only a part of each, or smaller ones.

They are the first ones to act on a picture, and geometric: see fusing.py. All other steps get decoded pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loader_service.dataset.fusing import shrink_of
from loader_service.dataset.sources.decoding import reads_encoded
from loader_service.dataset.sources.jpeg_region import kernel
from loader_service.dataset.sources.source import PictureReader, Reader
from loader_service.dataset.units import Geometry, Unit
from loader_service.protocol.errors import DatasetError
from loader_service.protocol.spec import Spec


@dataclass(frozen=True)
class Decoding:
    """What is decoded of a JPEG like the first one, with draws in the middle."""

    in_part: bool  # the step shows only a part of it
    by_kernel: bool  # and only a part is decoded
    shrink: int  # by which it is scaled down while it is decoded
    could_shrink: int  # if the source had shrink_on_load=True


def shrunk_pictures(reader: Reader) -> frozenset[str]:
    """Return the fields of a source that it may decode in a smaller size."""
    return reader.pictures if isinstance(reader, PictureReader) and reader.shrinks else frozenset()


class Decoders:
    """The units that decode, of a chain's; none, where the source has no pictures in files."""

    def __init__(self, reader: Reader, spec: Spec, units: Iterable[Unit], kept: int) -> None:
        """Find them.

        Args:
            spec: Of the source.
            kept: As many steps are done before samples are kept; all, where none are kept.
        Raises:
            DatasetError: If a cache keeps whole pictures which would be smaller ones without it.
        """
        self._reader = reader if isinstance(reader, PictureReader) else None
        self._spec = spec
        self._units = self._find(list(units))
        late = [unit for unit in self._units.values() if unit.numbers[0] >= kept]
        if late and self._shrinks:
            raise DatasetError(
                "cache: it would keep whole pictures, and shrink_on_load decodes smaller ones for "
                f"{late[0].run.steps[0].kind}: leave one of the two out, or put the cache behind a .resize(...)"
            )
        gains = self._reader is not None and reads_encoded(self._shrinks)
        early = (field for field, unit in self._units.items() if unit.numbers[0] < kept)
        self._left_encoded = frozenset(early) if gains else frozenset()

    def read(self, sample_id: int, fields: frozenset[str]) -> dict[str, Any] | None:
        """Return fields of a sample, with pictures still encoded that a unit decodes; None, if there are none."""
        if not self._left_encoded or self._reader is None:
            return None
        return self._reader.read(sample_id, fields, self._left_encoded)

    def told(self, unit: Unit | None, number: int) -> Decoding | None:
        """Return what a step, by its number, decodes of a JPEG; None, if it is none that begins a unit that does."""
        if not isinstance(unit, Geometry) or unit.numbers[0] != number or unit not in self._units.values():
            return None
        height, width, channels = self._spec[unit.run.group.image].room
        placement = unit.run.place(height, width, [[0.5] * step.draws for step in unit.run.steps])
        in_part, could_shrink = unit.run.decodes_part(placement, height, width, channels), shrink_of(placement)
        return Decoding(in_part, in_part and kernel() is not None, could_shrink if self._shrinks else 1, could_shrink)

    @property
    def _shrinks(self) -> bool:
        return self._reader is not None and bool(shrunk_pictures(self._reader))

    def _find(self, units: list[Unit]) -> dict[str, Geometry]:
        found: dict[str, Geometry] = {}
        for field in self._reader.pictures & self._spec.keys() if self._reader is not None else ():
            first = next((unit for unit in units if not unit.fields or field in unit.fields), None)
            if isinstance(first, Geometry) and first.run.group.image == field:
                found[field] = first
        return found
