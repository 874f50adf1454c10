"""Is a user's code a pure function of its sample and its random numbers? Found out by running it, at the start.

A batch may be made twice: after a crash, for another trainer, after a resume. Code that draws from a generator of its
own makes another batch each time; code that seeds `random` itself gives all samples the same noise.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from loader_service.dataset.transforms.map import globals_kept

Make = Callable[[int], Mapping[str, Any]]  # a position in the epoch -> the first sample, with its random numbers


def doubts(name: str, make: Make) -> Iterator[str]:
    """Yield a sentence for each thing that seems wrong.

    Args:
        name: What users call it.
        make: Runs it, `random` and `numpy.random` being seeded for the position.
    """
    with globals_kept():
        try:
            first, python, numpy = _run(make, 0)
            again, _, _ = _run(make, 0)
            _, other_python, other_numpy = _run(make, 1)
        except Exception:  # it raises with other random numbers: whoever makes that sample will say so
            return
    if not same(first, again):
        yield (
            f"{name} makes another sample each time that it is given the same one: batches that are made again (after "
            "a crash or a resume, or for another trainer) will differ. Draw random numbers from an argument `rng`, "
            "from `random` or from `numpy.random`, which are seeded for each sample; not from a generator of your own"
        )
    for module, seeded_alike in {"random": python == other_python, "numpy.random": numpy == other_numpy}.items():
        if seeded_alike:
            yield (
                f"{name} seeds `{module}` itself, so all samples get the same random numbers: leave that out, it is "
                "seeded for each sample before the call"
            )


def new_nans(
    name: str, before: Callable[[], Mapping[str, Any]], after: Callable[[], Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a sentence if a sample has NaN after a user's function, and had none before."""
    with globals_kept():
        try:
            found = _nans(after())
            had = _nans(before()) if found else None
        except Exception:  # it raises when it is run again: whoever makes that sample will say so
            return
    if found and not had:
        field, count, size = found
        yield (
            f"{name} returns NaN in field {field!r} of the first sample, {count:,} times in {size:,} numbers, and was "
            "given none: does it divide by zero, or take the logarithm of it?"
        )


def _nans(sample: Mapping[str, Any]) -> tuple[str, int, int] | None:
    for name, value in sample.items():
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fc" and np.isnan(value).any():
            return name, int(np.isnan(value).sum()), value.size
    return None


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two samples are equal to the byte."""
    return one.keys() == other.keys() and all(_bytes(one[name]) == _bytes(other[name]) for name in one)


def _bytes(value: Any) -> tuple[Any, ...]:
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


def _run(make: Make, position: int) -> tuple[Mapping[str, Any], Any, Any]:
    """Return the sample, and the states that both global generators are left in."""
    return make(position), *states()


def states() -> tuple[Any, Any]:
    """Return the states of Python's and NumPy's global generators, to be compared."""
    name, keys, place, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(keys).tobytes(), place, *rest)
