"""From JSON lines, one for each repeat of each arm, to figures: medians, spreads, and ratios to ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

Line = dict[str, Any]
HEADINGS = ("GB/s", "CPU s per 1,000", "PSS MiB", "first batch s", "gap ms (longest)", "ours is")
OWN_FILE = "a file of its own"  # how an arm's name ends that has written all samples anew, before it is timed


@dataclass(frozen=True)
class Arm:
    """One arm of a case, all repeats together."""

    name: str
    lines: list[Line]

    @property
    def unit(self) -> str:
        return str(self.lines[0]["unit"])

    @property
    def rates(self) -> list[float]:
        """Samples, or batches, a second: one number for each repeat."""
        return [line[self.unit] / line["seconds"] for line in self.lines]

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def cpu_microseconds(self) -> float:
        """Of all processes together, a sample or a batch."""
        return median(line["cpu_seconds"] / line[self.unit] * 1e6 for line in self.lines)

    def median(self, value: Callable[[Line], float | None]) -> float | None:
        values = [found for found in map(value, self.lines) if found is not None]
        return median(values) if values else None


@dataclass(frozen=True)
class Case:
    """The arms of one case; the first of them is ours."""

    name: str
    benchmark: str
    arms: list[Arm]

    def ratio(self, arm: Arm) -> float:
        """Return how many times faster ours is."""
        return self.arms[0].rate / arm.rate

    def best_peer(self) -> Arm | None:
        """Return the fastest of what a user can choose instead, for the files that are there."""
        peers = (arm for arm in self.arms if is_peer(arm.name) and not arm.name.endswith(OWN_FILE))
        return max(peers, key=lambda arm: arm.rate, default=None)


def read_lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def read_all(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of cases; benchmarks that have none, such as resume.py, tell their figures otherwise."""
    return [line for path in paths for line in read_lines(path) if "case" in line]


def read_measures(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of footprint.py."""
    return [line for path in paths for line in read_lines(path) if "measure" in line]


def measure_cells(line: Line) -> list[str]:
    """Return a row of footprint's table: what, how much, and how much it may be."""
    begun = f" ({line['first']:.1f} at first, {line['minutes']:g} minutes before)" if "first" in line else ""
    name = ", ".join(filter(None, (line["measure"], line.get("of"))))
    return [name, f"{line['value']:.1f}{begun}", f"{line['at_most']:.0f}"]


def cases_of(lines: Iterable[Line]) -> list[Case]:
    """Group lines by case and arm; cases in the order they came, and ours first among its arms."""
    grouped: dict[tuple[str, str], dict[str, list[Line]]] = {}
    for line in lines:
        arms = grouped.setdefault((line["benchmark"], line["case"]), {})
        arms.setdefault(line["arm"], []).append(line)
    cases = []
    for (benchmark, name), arms in grouped.items():
        found = sorted((Arm(arm, lines) for arm, lines in arms.items()), key=lambda arm: not is_ours(arm.name))
        if not is_ours(found[0].name):
            raise ValueError(f"case {name!r} has no figures of loader-service: there is nothing to compare with")
        cases.append(Case(name, benchmark, found))
    return cases


def is_ours(name: str) -> bool:
    return name.startswith("loader-service")


def is_peer(name: str) -> bool:
    return not is_ours(name) and not needs_no_loader(name)


def needs_no_loader(name: str) -> bool:
    """Return whether an arm is the bare machine, or has nothing to load: no choice that a user has."""
    return name.startswith(("floor", "ceiling", "one process", "in memory", "no hand-over"))


def repeats_of(arms: list[Arm]) -> str:
    """Return in words how often arms were measured."""
    least, most = min(len(arm.lines) for arm in arms), max(len(arm.lines) for arm in arms)
    if most == 1:
        return "One repeat"
    return f"{least} repeats" if least == most else f"{least} to {most} repeats"


def cells(case: Case, arm: Arm) -> list[str]:
    """Return a row of a table: rate and spread, and what HEADINGS says."""
    spread = f" ({min(arm.rates):,.0f}..{max(arm.rates):,.0f})" if len(arm.rates) > 1 else ""
    nbytes = median(line["samples"] * line["nbytes"] / line["rows"] / line["seconds"] for line in arm.lines)
    gap, longest = arm.median(lambda line: line.get("gap_ms")), arm.median(lambda line: line.get("longest_gap_ms"))
    return [
        f"{arm.rate:,.0f}{spread}",
        f"{nbytes / 1e9:,.2f}",
        f"{arm.cpu_microseconds / 1000:,.3g}",
        f"{arm.median(lambda line: line['pss_mib']):,.0f}",
        f"{arm.median(lambda line: line['first_batch_seconds']):.1f}",
        "" if gap is None or longest is None else f"{max(0, gap):,.1f} ({max(0, longest):,.1f})",
        "" if arm is case.arms[0] else f"{case.ratio(arm):,.2g} x",
    ]


def table_of(lines: list[Line]) -> Table:
    """Return the table of one case, for a terminal."""
    (case,) = cases_of(lines)
    table = Table(title=f"{case.name}: median (min..max)", title_justify="left")
    table.add_column("arm", no_wrap=True)
    for heading in (f"{case.arms[0].unit}/s", *HEADINGS):
        table.add_column(heading, justify="right")
    for arm in case.arms:
        table.add_row(arm.name, *cells(case, arm))
    return table
