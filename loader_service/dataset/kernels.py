"""What is written in C: libraries beside the modules that call them, where deploy/build_kernels.py could build them.

Whoever has one can do without it: nothing is different then but the speed.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

MUCH = 2**19  # bytes: of batches of so many, as are made ahead, caches hold the fewest
ADDRESS, SIZE, INT, UINT, KEY = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64


def library_of(module: str, name: str) -> ctypes.CDLL | None:
    """Return the library that NAME.c beside a module was built into; None, if it was not, or cannot be loaded here.

    Its functions hold no lock while they work.

    >>> library_of(__file__, "unheard_of") is None
    True
    """
    try:
        return ctypes.CDLL(str(Path(module).with_name(f"_{name}.so")))
    except OSError:
        return None


def function_of(module: str, library: str, name: str, *takes: Any, returns: Any = None) -> Any:
    """Return a function of the library beside a module, which takes and returns these; None, if it was not built."""
    loaded = library_of(module, library)
    if loaded is None:
        return None
    found = getattr(loaded, name)
    found.argtypes, found.restype = takes, returns
    return found
