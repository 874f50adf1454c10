"""Builds what decodes parts of JPEGs, where there is a C compiler and libjpeg-turbo; leaves it out where there is not.

pip runs it when it builds a wheel, or installs in place: a wheel that holds it fits this platform alone, any other one
fits all. `python deploy/build_kernel.py` builds it in place.
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
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("loader_service", "dataset", "sources")
SOURCE, LIBRARY = FOLDER / "jpeg_region.c", FOLDER / "_jpeg_region.so"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared")


def build(root: Path, library: Path) -> str:
    """Compile the kernel. Return why it cannot be done; nothing, where it was."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS, str(root / SOURCE), "-o", str(library), "-ljpeg"]
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
        """Build the kernel: in place for an editable installation, else beside it."""
        root = Path(self.root)
        library = root / LIBRARY if version == "editable" else _passing_folder() / LIBRARY.name
        if reason := build(root, library):
            self.app.display_warning(f"JPEGs will be decoded in whole: no kernel was built, since {reason}")
            return
        if version != "editable":
            build_data["force_include"][str(library)] = str(LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    here = Path(__file__).parents[1]
    sys.exit(build(here, here / LIBRARY) or None)
