"""From JSON lines to docs/performance.md with its pictures, and to the README's table; or to what has become slower.

    python -m benchmarks.report NEW.jsonl [MORE.jsonl ...]     writes them
    python -m benchmarks.report NEW.jsonl --against OLD.jsonl  exit status 1, if ours fell; 2, if nothing compares;
                                                               OLD may be several, too

All of the page is made here: its figures from the lines, its words from the first words of each benchmark's file.
What the README says of them is in readme.py.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.__main__ import MODULES
from benchmarks.figures import (
    HEADINGS,
    Case,
    Line,
    cases_of,
    cells,
    is_ours,
    measure_cells,
    read_all,
    read_measures,
    repeats_of,
)
from benchmarks.harness import PACKAGES
from benchmarks.readme import with_figures
from loader_service.protocol.prefetch import AHEAD_NBYTES, LEAST_AHEAD, MOST_AHEAD

ROOT = Path(__file__).parents[1]
SCALING = "benchmarks.scaling"
DISTURBED = 0.1  # cores
SEVERAL = (
    "\nIt was done on several days, on machines that differ in speed: rows of two days compare by their ratios only.\n"
)
TOLERANCE = 0.25  # part of a ratio that two quiet runs on one machine differ by, and no more

OPENING = """\
# Performance

How fast batches arrive, ours and others', measured with the same work, the same number of workers, and the same reader.
This page is written by a program, and so are its figures: `make bench-all` measures everything and writes it anew.
"""

NO_LOADER = """\
FFCV reads a file of its own, which it has written before, with the samples as it wants them: it is in the tables below,
and not in this one, but for the cases in which ours are packed or kept, too.

Where we must lose: to whoever needs no loader, because the data is in memory or in one mapped file, and the work is
next to nothing. Those arms are grey in the picture, and so are the bare processes that nobody reads: they say how far
anybody can get. The sentence under each table names all that are faster than ours.
"""

METHOD = """\
## How it was measured

{repeats} of {seconds} timed, after a warm-up that lasts to the end of the first epoch, where that is not too far. Each
repeat of each arm is a process of its own, and the arms take turns. Everybody has two workers, makes as many batches
ahead ({least}, or as many as lie in {ahead}, up to {most}), and has libraries use one thread in each process. The page
cache is warm. Every reader adds up one number of each page of every batch. During the warm-up each arm's batches are
examined: dtypes, shapes, contents, no sample twice, none missing, shuffled or in order. One that fails is not measured.

| column | |
|---|---|
| samples/s, batches/s | median of the repeats (smallest..largest) |
| CPU s per 1,000 | seconds of all processes together: daemon, workers, reader |
| PSS MiB | memory of all processes together at its peak, shared pages counted once; the reader's framework is in it |
| first batch s | from a new process that has loaded nothing: imports and start of workers are in it |
| gap ms (longest) | what an epoch's first batch takes longer than others: median, and longest, of all seen |
| ours is | how many times faster ours is; below 1, ours is slower |

`floor` is two bare processes that make batches as fast as they can, which nobody reads. `in line` is a loop in the
process that reads. `ceiling` is Keras with a batch that is ready, or ours without Keras.

```text
{command}
```

| machine | |
|---|---|
{setting}

Not shown: a cold disk, a GPU, more than {cores} cores, other machines. Figures of different machines, or of different
days, do not compare; ratios within one table do.
"""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("new", type=Path, nargs="+", metavar="NEW.jsonl")
    parser.add_argument(
        "--against", type=Path, nargs="+", metavar="OLD.jsonl", help="compare ratios to peers, and write no page"
    )
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="part that a ratio may fall by (%(default)s)"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where to write")
    parser.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", help="where its table stands, between markers"
    )
    asked = parser.parse_args()
    new = read_all(asked.new)
    if asked.against:
        return compare(cases_of(new), cases_of(read_all(asked.against)), asked.tolerance)
    from benchmarks.plot import draw, draw_scaling

    cases = in_order(new)
    picture, of_scaling = asked.page.with_suffix(".png"), asked.page.with_name(f"{asked.page.stem}-scaling.png")
    draw([case for case in cases if case.benchmark != SCALING], picture)
    if any(case.benchmark == SCALING for case in cases):
        draw_scaling([case for case in cases if case.benchmark == SCALING], of_scaling)
    asked.page.write_text(page_of(new, picture.name, of_scaling.name, read_measures(asked.new)))
    asked.readme.write_text(with_figures(asked.readme.read_text(), new))
    print(f"wrote {asked.page}, its pictures, and the table in {asked.readme}", file=sys.stderr)
    return 0


# -- what has become slower ----------------------------------------------------------------------------------------


def compare(new: list[Case], old: list[Case], tolerance: float) -> int:
    """Name the ratios to peers that fell by more than the tolerance. Absolute times are not looked at."""
    before, now = dict(ratios(old)), dict(ratios(new))
    alike = before.keys() & now.keys()
    if not alike:
        print("the two files have no case and no peer in common: there is nothing to compare", file=sys.stderr)
        return 2
    fallen = [name for name in now if name in alike and now[name] < before[name] * (1 - tolerance)]
    for case, ours, peer in fallen:
        was, is_now = before[case, ours, peer], now[case, ours, peer]
        print(f"{case}: {ours} was {was:.2f} x {peer}, is {is_now:.2f} x: fell by {1 - is_now / was:.0%}")
    for case, ours, peer in sorted(before.keys() - now.keys()):
        print(f"not measured any more: {case}: {ours} against {peer}", file=sys.stderr)
    print(f"{len(alike)} ratios compared; {len(fallen)} fell by more than {tolerance:.0%}", file=sys.stderr)
    return 1 if fallen else 0


def ratios(cases: list[Case]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Yield how many times faster each arm of ours is than each other one."""
    for case in cases:
        for ours in filter(lambda arm: is_ours(arm.name), case.arms):
            for peer in case.arms:
                if not is_ours(peer.name):
                    yield (case.name, ours.name, peer.name), ours.rate / peer.rate


# -- the page ------------------------------------------------------------------------------------------------------


def page_of(lines: list[Line], picture: str, of_scaling: str, measures: list[Line]) -> str:
    """Return the page; `picture` and `of_scaling` are names of its pictures, `measures` the lines of footprint.py."""
    cases, several = in_order(lines), len({line["date"] for line in lines}) > 1
    parts = [
        OPENING,
        f"{disturbance(lines)}\n{SEVERAL if several else ''}",
        summary(cases),
        f"![Samples per second of each, relative to ours]({picture})\n",
    ]
    for benchmark in dict.fromkeys(case.benchmark for case in cases):
        question, text = words_of(benchmark)
        parts.append(f"## {benchmark.partition('.')[2].capitalize()}\n\n**{question}**\n\n{text}\n")
        parts += [f"![What grows with what]({of_scaling})\n"] if benchmark == SCALING else []
        parts += [section(case, when=several) for case in cases if case.benchmark == benchmark]
    return "\n".join([*parts, *footprint(measures), method(lines)])


def in_order(lines: list[Line]) -> list[Case]:
    """Return the cases as they stand on the page, whichever was measured first."""
    places = {module: place for place, module in enumerate(MODULES)}
    return sorted(cases_of(lines), key=lambda case: places.get(case.benchmark, len(places)))


def words_of(benchmark: str) -> tuple[str, str]:
    """Return the question that a benchmark's file opens with, and what it says about it."""
    file = ROOT.joinpath(*benchmark.split(".")).with_suffix(".py")
    question, _, text = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n\n")
    return question, text


def summary(cases: list[Case]) -> str:
    """Return how ours stands to the best peer of each case, in a table, and where it is behind, in words."""
    rows = ["| | ours | the best of the peers | ours is |", "|---|---|---|---|"]
    behind = []
    for case in cases:
        best, ours = case.best_peer(), case.arms[0]
        if best:
            told = f"{case.name} | {ours.rate:,.0f} {ours.unit}/s | {best.name}: {best.rate:,.0f}"
            rows.append(f"| {told} | {case.ratio(best):.2g} x |")
            behind += [f"{case.name} ({best.name})"] if case.ratio(best) < 1 else []
    told = f"Where we lose to a peer: {'; '.join(behind)}.\n" if behind else "No peer is ahead of ours here.\n"
    return "\n".join([*rows, "", told, NO_LOADER])


def footprint(measures: list[Line]) -> list[str]:
    """Return a section of what the service itself takes, where it was measured."""
    if not measures:
        return []
    question, text = words_of("benchmarks.footprint")
    rows = [f"| {' | '.join(measure_cells(line))} |" for line in measures]
    method = f"```text\n{text}\n```"
    return [
        "\n".join(
            [
                "## Footprint",
                "",
                f"**{question}**",
                "",
                method,
                "",
                "| | found | at most |",
                "|---|---:|---:|",
                *rows,
                "",
            ]
        )
    ]


def section(case: Case, *, when: bool) -> str:
    """Return the table of a case, and who is ahead of ours; and when it was measured, if that has to be said."""
    unit = case.arms[0].unit
    lines = [f"| {case.name} | {unit}/s | {' | '.join(HEADINGS)} |", f"|---|{'---:|' * (len(HEADINGS) + 1)}"]
    for arm in case.arms:
        name = f"**{arm.name}**" if is_ours(arm.name) else arm.name
        lines.append(f"| {name} | {' | '.join(cells(case, arm))} |")
    dates = sorted({line["date"] for arm in case.arms for line in arm.lines})
    measured = f" Measured on {' and '.join(dates)}." if when else ""
    return "\n".join(lines) + f"\n\n{ahead(case)}{measured}\n"


def ahead(case: Case) -> str:
    """Return a sentence that names those who are faster than ours."""
    if all(is_ours(arm.name) for arm in case.arms):
        return "All of these are ours; the last column compares with the first row."
    faster = sorted((arm for arm in case.arms if not is_ours(arm.name) and case.ratio(arm) < 1), key=case.ratio)
    if not faster:
        return "Nobody here is faster than ours."
    return "Faster than ours: " + "; ".join(f"{arm.name}, {1 / case.ratio(arm):.2g} times" for arm in faster) + "."


def method(lines: list[Line]) -> str:
    """Return how it was measured, on what, with which versions."""
    arms = [arm for case in cases_of(lines) for arm in case.arms]
    first = lines[0]
    told = [f"| {name} | {first[name]} |" for name in ("CPU", "cores", "memory", "Linux", "Python") if name in first]
    told += [f"| {name} | {first[name]} |" for name in PACKAGES if name in first]
    dates = sorted({line["date"] for line in lines})
    told.insert(0, f"| date | {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'} |")
    commands = dict.fromkeys(line["command"] for line in lines)
    return METHOD.format(
        repeats=repeats_of(arms),
        seconds=f"{min(line['seconds'] for line in lines):.0f} s",
        command="\n".join(commands),
        least=LEAST_AHEAD,
        ahead=f"{AHEAD_NBYTES // 2**20} MiB",
        most=MOST_AHEAD,
        cores=first.get("cores", "so many"),
        setting="\n".join(told),
    )


def disturbance(lines: list[Line]) -> str:
    """Return a sentence about what else the machine did."""
    others = [line["others_cores"] for line in lines if "others_cores" in line]
    if len(others) < len(lines):
        return "**What else the machine did meanwhile was not recorded: these figures may be far off.**"
    told = f"kept {median(others):.2f} cores busy meanwhile (median; at most {max(others):.2f})"
    if median(others) > DISTURBED:
        return f"**The machine was not left alone, and these figures are far off: others {told}.**"
    return f"The machine was left alone: others {told}."


if __name__ == "__main__":
    raise SystemExit(main())
