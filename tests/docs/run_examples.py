"""Run examples one after the other, as their docstrings say: in one process, since TensorFlow starts slowly."""

import re
import runpy
import sys
import time
from pathlib import Path


def main(examples):
    for example in examples:
        line = re.search(rf"^    python examples/{example.name}(.*)$", example.read_text(), re.MULTILINE)
        sys.argv = [str(example), *line[1].split()]
        began = time.perf_counter()
        print(f"{example.name}:", flush=True)
        runpy.run_path(str(example), run_name="__main__")
        print(f"{example.name}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
