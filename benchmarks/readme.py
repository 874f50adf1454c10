"""What the README says of the figures: a small table, between two markers, and when and on what it was measured."""

from __future__ import annotations

from benchmarks.figures import Arm, Case, Line, cases_of, repeats_of

BEGIN = "<!-- begin: written by python -m benchmarks.report -->"
END = "<!-- end -->"
WORDS = {
    "volumes": "volumes: 4,096 `.npy` files of 128 KiB",
    "arrays": "pictures in one mapped array, random flips",
    "photos, training": "photos: decode, random crop to 224, flip",
    "photos, evaluation": "photos in order: decode, resize to 224",
    "large photos, training": "photos of 12 megapixels: decode, random crop to 224, flip",
    "large photos, training, antialiased": "photos of 12 megapixels: the same in full quality, with antialiasing",
    "large photos, evaluation": "photos of 12 megapixels in order: decode, resize with antialiasing, crop to 224",
    "photos, kept": "photos for training, decoded once and kept",
    "sequences": "sequences of 5 to 200 steps, padded",
    "python": "your Python, which holds the interpreter lock for 2 ms a sample",
    "table": "rows of 128 bytes from a mapped table, no work at all",
    "fit, volumes": "volumes in `model.fit`, tiny model",
    "fit, photos": "photos in `model.fit`, tiny model",
    "fit, table": "rows of 128 bytes in `model.fit`, tiny model",
}
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
FLOOR, IN_LINE = "floor", "one process, in line"

SETTING = """\
*Where we lose:* {lost}

Medians of {repeats} each, arms taking turns, on {date}, with {CPU}, {cores} cores, Linux {Linux}, Python {Python}.
Spread, CPU time, memory, gaps between epochs, and all the others: [performance](docs/performance.md). `make bench-all`
measures everything, and writes these figures."""


def with_figures(readme: str, lines: list[Line]) -> str:
    """Return the README with its table written anew.

    Raises:
        ValueError: If the markers are not there, one of each.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"the README has no place for the table: {BEGIN!r} and {END!r} mark it, once each")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{figures(lines)}\n{END}{rest.partition(END)[2]}"


def figures(lines: list[Line]) -> str:
    """Return the table of the best known cases, and what must be said of it."""
    lines = [line for line in lines if line["case"] in WORDS]
    cases = cases_of(lines)
    cases.sort(key=lambda case: list(WORDS).index(case.name))
    rows = [
        "| samples/s | ours | the best of the peers | two bare processes, which nobody reads |",
        "|---|---|---|---|",
    ]
    marks = marks_of(lines)
    rows += [row(case, marks[case.arms[0].lines[0]["date"]]) for case in cases]
    arms = [arm for case in cases for arm in case.arms]
    first = {"CPU": "an unknown processor", "cores": "?", "Linux": "?", "Python": "?", **lines[0]}
    setting = SETTING.format(
        lost=lost(cases),
        repeats=repeats_of(arms).lower(),
        date=dates_of(lines),
        **{name: first[name] for name in ("CPU", "cores", "Linux", "Python")},
    )
    return "\n".join(["", *rows, "", setting, ""])


def marks_of(lines: list[Line]) -> dict[str, str]:
    """Return a mark for each day that something was measured on; none for the first one."""
    days = enumerate(sorted({line["date"] for line in lines}))
    return {day: str(number).translate(RAISED) if number else "" for number, day in days}


def dates_of(lines: list[Line]) -> str:
    """Return when the cases were measured."""
    (first, _), *others = marks_of(lines).items()
    if not others:
        return str(first)
    told = ", ".join(f"{mark} on {day}" for day, mark in others)
    return f"{first} ({told}: machines differ in speed, and rows of two days compare by their ratios only)"


def row(case: Case, mark: str) -> str:
    ours, best, floor = case.arms[0], case.best_peer(), arm_named(case, FLOOR)
    ahead = best is None or ours.rate >= best.rate
    theirs = "" if best is None else f"{bold(best.rate, not ahead)} ({best.name})"
    name = f"{WORDS[case.name]} {mark}".strip()
    return f"| {name} | {bold(ours.rate, ahead)} | {theirs} | {f'{floor.rate:,.0f}' if floor else ''} |"


def bold(rate: float, yes: bool) -> str:
    return f"**{rate:,.0f}**" if yes else f"{rate:,.0f}"


def arm_named(case: Case, beginning: str) -> Arm | None:
    return next((arm for arm in case.arms if arm.name.startswith(beginning)), None)


def lost(cases: list[Case]) -> str:
    """Return a sentence that names the peers, and the loops without a loader, that are ahead of ours."""
    told = []
    for case in cases:
        for arm in (case.best_peer(), arm_named(case, IN_LINE)):
            if arm and arm.rate > case.arms[0].rate:
                whom = "one process that does it in line" if arm.name == IN_LINE else arm.name
                told.append(f"to {whom}, {1 / case.ratio(arm):.3g} times ({case.name})")
    return f"{'; '.join(told)}." if told else "nowhere in this table."
