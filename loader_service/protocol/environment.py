"""What the environment of workers says, from their first line on: libraries read it when they are loaded."""

from __future__ import annotations

import os

# One thread for each library, no GPU, no block buffering of prints.
ENVIRONMENT = {
    "BLIS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "RAYON_NUM_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}

# Copies from 128 KiB on go past the caches: a slot is written once, and read by another process. glibc's own threshold,
# three quarters of the last cache, has each cache line of a slot read before it is overwritten: to gather a row of
# 128 KiB into a slot takes 24 us of a core then, and 16 us past the caches.
DEFAULTS = {"GLIBC_TUNABLES": "glibc.cpu.x86_non_temporal_threshold=0x20000"}


def environment_of_workers() -> dict[str, str]:
    """Return the environment that a process is to be started with, if workers are forked from it."""
    return {**DEFAULTS, **os.environ, **ENVIRONMENT}


def is_environment_of_workers() -> bool:
    """Whether this process was started with it."""
    return ENVIRONMENT.items() <= os.environ.items()
