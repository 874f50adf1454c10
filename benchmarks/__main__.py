"""All benchmarks, one after the other: `python -m benchmarks --json FILE`."""

from importlib import import_module

from benchmarks.harness import run

NAMES = ("volumes", "photos", "normalized", "cached", "arrays", "table", "sequences", "python", "stragglers", "wrap")
MODULES = [f"benchmarks.{name}" for name in (*NAMES, "fit", "handover", "scaling")]

if __name__ == "__main__":
    cases = {module: import_module(module).CASES for module in MODULES}
    raise SystemExit(run("benchmarks", "All benchmarks.", cases))
