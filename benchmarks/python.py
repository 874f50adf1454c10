"""How fast are samples made by a user's own Python, which holds the interpreter lock for about 2 ms for each?

512 samples of eight numbers, batches of 16, shuffled. Nothing but the loop takes time: who has two processes can be
twice as fast as one, and nobody faster than two bare ones; threads are as slow as one process. With a third of that
work, what handing samples and batches over costs counts for three times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import main
from benchmarks.peers import case_of
from benchmarks.work import Ids, Work

STEPS = 75_000  # of the loop: about 2 ms, on the processors of 2025; they took 0.5 to 1.1 ms for a third of them
FEWER_STEPS = STEPS // 3
WIDTH = 8


def busy(number: int, steps: int) -> int:
    """Return the number again, some time later."""
    total = 0
    for step in range(steps):
        total += step & 1
    return number + total - steps // 2


def work_hard(sample: dict[str, Any]) -> dict[str, Any]:
    """The user's function."""
    return {**sample, "y": np.int64(busy(int(sample["y"]), STEPS))}


def work_less(sample: dict[str, Any]) -> dict[str, Any]:
    """Another one."""
    return {**sample, "y": np.int64(busy(int(sample["y"]), FEWER_STEPS))}


class Python(Work):
    samples = 512
    rows = 16
    x = ((WIDTH,), np.float32)
    y = ((), np.int64)
    in_python = True

    def __init__(self, function: Callable[..., Any], steps: int) -> None:
        self.function, self.steps = function, steps

    def dataset(self) -> Any:
        from loader_service import Dataset

        source = Dataset.from_arrays(x=numbers(), y=self.in_order())
        return source.map(f"benchmarks.python:{self.function.__name__}").shuffle(seed=7).batch(self.rows)

    def sample(self, i: int, rng: np.random.Generator) -> tuple[Any, Any]:
        return numbers()[i], np.int64(busy(int(i), self.steps))

    def fill(self, ids: Ids, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        np.take(numbers(), ids, axis=0, out=x, mode="clip")
        for row, i in enumerate(ids.tolist()):
            y[row] = busy(i, self.steps)

    def tf_columns(self) -> tuple[Any, ...]:
        return numbers(), self.in_order()

    def tf_sample(self, x: Any, number: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        y = tf.numpy_function(lambda i: np.int64(busy(int(i), self.steps)), [number], tf.int64, stateful=False)
        return x, tf.ensure_shape(y, ())

    def identities(self, x: np.ndarray, y: np.ndarray) -> NDArray[np.int64]:
        return y

    def examine(self, position: int, ids: NDArray[np.int64], x: np.ndarray, y: np.ndarray) -> None:
        assert np.array_equal(x, numbers()[ids]), "the numbers are not those of the sample"


@cache
def numbers() -> np.ndarray:
    return np.arange(Python.samples, dtype=np.float32)[:, None].repeat(WIDTH, axis=1)


WORK, LIGHT_WORK = Python(work_hard, STEPS), Python(work_less, FEWER_STEPS)
CASES = [
    case_of("python", WORK),
    case_of("python, a third", LIGHT_WORK, short=False),
]

if __name__ == "__main__":
    main("benchmarks.python", __doc__ or "", CASES)
