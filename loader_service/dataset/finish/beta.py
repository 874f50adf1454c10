"""Numbers of the distribution Beta(alpha, alpha), out of a fixed number of uniform ones.

A share is X / (X + Y), where X and Y are drawn from Gamma(alpha). Those are drawn by rejection, from attempts that are
all made at once: that none of sixteen is taken happens once in 10^20 times. Logarithms, because for a small alpha both
numbers are too small for floats.

Source: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; for alpha below 1, their note on
raising it by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ATTEMPTS = 16
GAMMA_DRAWS = 3 * ATTEMPTS + 1
BETA_DRAWS = 2 * GAMMA_DRAWS


def symmetric_beta(alpha: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a number in [0, 1] for each row of draws in [0, 1), which are (rows, BETA_DRAWS)."""
    x, y = _log_gamma(alpha, draws[:, :GAMMA_DRAWS]), _log_gamma(alpha, draws[:, GAMMA_DRAWS:])
    shares: NDArray[np.float64] = 1 / (1 + np.exp(np.clip(y - x, -700, 700)))
    return shares


def _log_gamma(alpha: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of a number of Gamma(alpha) for each row of draws."""
    one, two, accept = (1 - draws[:, part * ATTEMPTS : (part + 1) * ATTEMPTS] for part in range(3))  # in (0, 1]
    normal = np.sqrt(-2 * np.log(one)) * np.cos(2 * np.pi * two)  # Box and Muller
    d = alpha + 1 - 1 / 3
    v = np.maximum(1 + normal / np.sqrt(9 * d), 0) ** 3
    with np.errstate(divide="ignore"):
        log_v = np.log(v)
    taken = (v > 0) & (np.log(accept) < normal**2 / 2 + d - d * v + d * np.where(v > 0, log_v, 0))
    first = np.argmax(taken, axis=1)
    chosen = np.where(taken.any(axis=1), log_v[np.arange(len(draws)), first], 0.0)
    logarithms: NDArray[np.float64] = np.log(d) + chosen + np.log(1 - draws[:, -1]) / alpha
    return logarithms
