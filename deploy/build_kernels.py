"""Builds the kernels, each where there is a C compiler and what it needs; leaves out those that cannot be built.

pip runs it when it builds a wheel, or installs in place: a wheel that holds one fits this platform alone, any other one
fits all. `python deploy/build_kernels.py` builds them in place.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DATASET = Path("loader_service", "dataset")
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared")


class Kernel(NamedTuple):
    """One library."""

    source: Path
    without: str  # what is so if it is not there
    links: tuple[str, ...] = ()

    @property
    def library(self) -> Path:
        """Where it belongs."""
        return self.source.with_name(f"_{self.source.stem}.so")


KERNELS = (
    Kernel(DATASET / "sources" / "jpeg_region.c", "JPEGs will be decoded in whole", ("-ljpeg", "-lm")),
    Kernel(DATASET / "transforms" / "geometry" / "windows.c", "pictures in memory will be cut out one by one"),
    Kernel(DATASET / "transforms" / "geometry" / "bilinear.c", "pictures will be scaled by OpenCV", ("-lm",)),
    Kernel(DATASET / "sources" / "npy_bodies.c", ".npy files will be read one by one"),
    Kernel(DATASET / "draws.c", "random numbers will be drawn by NumPy"),
    Kernel(DATASET / "order.c", "samples will be shuffled by NumPy"),
    Kernel(DATASET / "sequences.c", "rows of different lengths will be copied one by one"),
)


def build(root: Path, kernel: Kernel, library: Path) -> str:
    """Compile a kernel. Return why it cannot be done; nothing, where it was."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS, str(root / kernel.source), "-o", str(library), *kernel.links]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        return f"there is no compiler {compiler[0]!r}"
    except subprocess.CalledProcessError as error:
        return next((line for line in error.stderr.splitlines() if "error" in line), "the compiler failed")
    return ""


def _passing_folder() -> Path:
    """Return a folder that is gone when this process has built its wheel."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the kernels: in place for an editable installation, else beside it."""
        root, beside = Path(self.root), _passing_folder()
        for kernel in KERNELS:
            library = root / kernel.library if version == "editable" else beside / kernel.library.name
            if reason := build(root, kernel, library):
                self.app.display_warning(f"{kernel.without}: no kernel was built, since {reason}")
                continue
            if version != "editable":
                build_data["force_include"][str(library)] = str(kernel.library)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    here = Path(__file__).parents[1]
    failures = [reason for kernel in KERNELS if (reason := build(here, kernel, here / kernel.library))]
    sys.exit("\n".join(failures) or None)
