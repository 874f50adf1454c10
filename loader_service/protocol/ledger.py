"""The ledger of a dataset's key: the samples that cannot be made, each with its file and the reason. It only grows.

A batch is a function of the dataset, its number, and the *set* of samples in the ledger. So the hash is that of the
set: daemons that found the same samples in another order make the same batches, and say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from loader_service.protocol.errors import DatasetError, SampleError, plain_text

ATTEMPTS = 2  # at a sample that raises, before it is held to be bad
MAX_REASON = 300  # characters
TOLD = 3  # samples that a sentence names


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class BadSample:
    """A sample that cannot be made, and why."""

    id: Annotated[int, Field(ge=0, lt=2**63)]
    file: str  # its path; what its source calls it, where it has none
    reason: str  # in one line

    @classmethod
    def of(cls, sample_id: int, file: str, told: str) -> BadSample:
        """Cut what is told of it down to what a ledger keeps.

        >>> str(BadSample.of(3, "cats/3.jpg", "the JPEG is damaged\\nand more"))
        'sample 3 (cats/3.jpg): the JPEG is damaged'
        """
        reason = plain_text(told.strip().partition("\n")[0])
        return cls(sample_id, plain_text(file), reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]}...")

    def __str__(self) -> str:
        return f"sample {self.id} ({self.file}): {self.reason}"


def error_about(sample_id: int, file: str, told: str, kind: type[DatasetError] = SampleError) -> DatasetError:
    """Return the error that names a sample; `sample_of` finds it there again."""
    error = kind(f"sample {sample_id} ({file}): {told}")
    error.sample = BadSample.of(sample_id, file, told)
    return error


def sample_of(error: BaseException) -> BadSample | None:
    """Return the sample that an error of this process is about, if it is about one."""
    return error.sample if isinstance(error, DatasetError) else None


def named(samples: list[BadSample]) -> str:
    """Return the first few samples, for a sentence.

    >>> named([BadSample(id, f"{id}.jpg", "it is empty") for id in (4, 7)])
    'sample 4 (4.jpg): it is empty; sample 7 (7.jpg): it is empty'
    """
    more = f"; and {len(samples) - TOLD:,} more" if len(samples) > TOLD else ""
    return "; ".join(map(str, samples[:TOLD])) + more


class Ledger:
    """Bad samples, in the order in which they were found.

    >>> ledger = Ledger([BadSample(4, "4.jpg", "it is empty")])
    >>> before = ledger.hash
    >>> [sample.id for sample in ledger.add([BadSample(4, "4.jpg", "again"), BadSample(7, "7.jpg", "it is empty")])]
    [7]
    >>> [sample.id for sample in ledger.since(before)]
    [7]
    """

    def __init__(self, samples: Iterable[BadSample] = ()) -> None:
        self._samples: dict[int, BadSample] = {}
        self._mark = 0
        self.add(samples)

    def add(self, samples: Iterable[BadSample]) -> list[BadSample]:
        """Enter samples. Return those that are new."""
        new = []
        for sample in samples:
            if sample.id not in self._samples:
                self._samples[sample.id] = sample
                self._mark ^= _mark(sample.id)
                new.append(sample)
        return new

    def __contains__(self, sample_id: int) -> bool:
        return sample_id in self._samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[BadSample]:
        return iter(self._samples.values())

    @property
    def ids(self) -> list[int]:
        """The samples' numbers."""
        return list(self._samples)

    @property
    def hash(self) -> str:
        """Of the set of samples; "" while there is none."""
        return _shown(self._mark) if self._samples else ""

    def since(self, earlier: str) -> list[BadSample] | None:
        """Return the samples that were found after the ledger had this hash; None if it never had."""
        samples = list(self)
        if not earlier:
            return samples
        mark = 0
        for count, sample in enumerate(samples, 1):
            mark ^= _mark(sample.id)
            if _shown(mark) == earlier:
                return samples[count:]
        return None

    def refuse(self, sample: BadSample, most: int, samples: int, where: str) -> SampleError:
        """Return the error of a sample that would be one too many.

        Args:
            most: Samples that may be replaced.
            samples: Of the dataset.
            where: The file that lists them.
        """
        return SampleError(
            f"{len(self) + 1:,} of {samples:,} samples cannot be made, and no more than {most:,} may be replaced: "
            f"{named([sample, *self])}. Mend or remove them (`loader-service check CONFIG --all` finds all), or allow "
            f'more with .on_error("replace", most=...). If they are sound again, delete {where}'
        )


def _mark(sample_id: int) -> int:
    """Return 64 bits for a sample; those of a set are combined by exclusive or, which knows no order."""
    return int.from_bytes(hashlib.blake2b(sample_id.to_bytes(8, "little"), digest_size=8).digest(), "little")


def _shown(mark: int) -> str:
    return f"{mark:016x}"
