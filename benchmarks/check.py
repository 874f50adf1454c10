"""Whether figures reach what is asked of them: ratios within one run, never times.

    python -m benchmarks.check NEW.jsonl [MORE.jsonl ...]

Prints a row for each bar; exit status 1 names those that are missed, 2 says that nothing could be compared. A bar whose
case, or whose peers, were not measured is shown as such, and is not missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Case, cases_of, is_peer, read_all
from benchmarks.fit import CEILINGS, WITHOUT_KERAS

Is = Callable[[str], bool]


@dataclass(frozen=True)
class Bar:
    """Ours is to be `least` times as fast as the fastest of those in a case whose names are meant."""

    case: str
    least: float
    against: str  # in words
    meant: Is = is_peer
    cap: str = ""  # an arm of the case whose rate counts instead, where it is smaller


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    other: str  # with whom ours was compared; empty where nobody was measured
    ratio: float

    @property
    def missed(self) -> bool:
        return bool(self.other) and self.ratio < self.bar.least


def named(*beginnings: str) -> Is:
    return lambda name: name.startswith(beginnings)


def other_than(*beginnings: str) -> Is:
    return lambda name: is_peer(name) and not name.startswith(beginnings)


FLOOR, IN_LINE, KERAS_ALONE = named("floor"), named("one process, in line"), named(*CEILINGS)
BEST_TF, ANY_TF = named("tf.data, one endless iterator"), named("tf.data,")
BARS = [
    Bar("volumes", 3, "best peer that reads the same files", other_than("FFCV")),
    Bar("volumes", 20, "Keras PyDataset, 2 processes", lambda name: name == "Keras PyDataset, 2 processes"),
    Bar("volumes", 0.65, "two bare processes", FLOOR),
    Bar("photos, training", 1.3, "best peer other than tf.data", other_than("tf.data")),
    Bar("photos, training", 1.05, "tf.data at its best", BEST_TF),
    Bar("photos, evaluation", 1, "best peer"),
    Bar("large photos, training", 3, "best peer that decodes in full", other_than("tf.data", "NVIDIA", "FFCV")),
    Bar("large photos, training, antialiased", 1, "best peer"),
    Bar("large photos, evaluation", 1, "best peer"),
    Bar("photos, kept", 1, "best peer"),
    Bar("volumes, packed", 1, "best peer"),
    Bar("arrays", 4, "best peer with workers that reads the same file", other_than("tf.data", "FFCV")),
    Bar("arrays", 1, "one loop, in line", IN_LINE),
    Bar("sequences", 1, "tf.data", ANY_TF),
    Bar("sequences", 1, "one loop, in line", IN_LINE),
    Bar("sequences, bucketed", 1, "tf.data", ANY_TF),
    Bar("sequences, bucketed", 1, "one loop, in line", IN_LINE),
    Bar("python", 0.9, "two bare processes", FLOOR),
    Bar("python", 1 / 1.05, "best peer"),
    Bar("fit, volumes", 1.5, "tf.data", ANY_TF),
    Bar("fit, volumes", 1, "best peer"),
    Bar("fit, volumes", 0.7, "the smaller of Keras' ceiling and ours without Keras", KERAS_ALONE, WITHOUT_KERAS),
    Bar("fit, photos", 1.05, "tf.data", ANY_TF),
    Bar("fit, photos", 1, "best peer"),
    Bar("fit, photos", 0.85, "the smaller of Keras' ceiling and ours without Keras", KERAS_ALONE, WITHOUT_KERAS),
    Bar("fit, table", 1, "best peer"),
    Bar("photos, 1 worker", 0.9, "one bare process", FLOOR),
    Bar("photos, 2 workers", 0.9, "two bare processes", FLOOR),
    Bar("photos, 16 workers", 0.9, "sixteen bare processes", FLOOR),
]


def verdicts(cases: list[Case], bars: list[Bar]) -> Iterator[Verdict]:
    """Hold each bar against the figures."""
    known = {case.name: case for case in cases}
    for bar in bars:
        arms = known[bar.case].arms if bar.case in known else []
        meant = [arm for arm in arms if bar.meant(arm.name)]
        caps = [arm for arm in arms if arm.name == bar.cap]
        if not meant or (bar.cap and not caps):
            yield Verdict(bar, "", 0.0)
            continue
        other = min([max(meant, key=lambda arm: arm.rate), *caps], key=lambda arm: arm.rate)
        yield Verdict(bar, other.name, known[bar.case].arms[0].rate / other.rate)


def table_of(found: list[Verdict]) -> Table:
    table = Table("case", "against")
    for heading in ("at least", "ours is", ""):
        table.add_column(heading, justify="right")
    for verdict in found:
        bar = verdict.bar
        against = f"{bar.against}: {verdict.other}" if verdict.other and verdict.other != bar.against else bar.against
        ratio = f"{verdict.ratio:.2f} x" if verdict.other else ""
        told = "MISSED" if verdict.missed else "reached" if verdict.other else "not measured"
        table.add_row(bar.case, against, f"{bar.least:.2f} x", ratio, told)
    return table


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="NEW.jsonl")
    found = list(verdicts(cases_of(read_all(parser.parse_args().files)), BARS))
    Console(width=None if sys.stdout.isatty() else 150).print(table_of(found))
    missed = [verdict for verdict in found if verdict.missed]
    for verdict in missed:
        bar = verdict.bar
        print(f"missed: {bar.case}: {verdict.ratio:.2f} x {verdict.other}, at least {bar.least:.2f} x", file=sys.stderr)
    if not any(verdict.other for verdict in found):
        print("nothing in these files can be compared", file=sys.stderr)
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
