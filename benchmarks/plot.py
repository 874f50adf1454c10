"""The pictures on docs/performance.md: a panel for each case, a bar for each arm, its rate relative to ours.

Of scaling, lines: how many times faster more workers are, beside as many bare processes; what a sample costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Arm, Case, is_ours, needs_no_loader

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
COLOURS = {"ours": "#1b6ca8", "peers": "#c8803c", "no loader: bare processes, in line, ceilings": "#a8a8a8"}


def draw(cases: list[Case], path: Path) -> None:
    """Write the picture: the same scale in all panels, logarithmic, a line where ours is."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = -(-len(cases) // COLUMNS)
    bars = [max(len(case.arms) for case in cases[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(rows)]
    figure = Figure(figsize=(15, 0.25 * sum(bars) + 0.9 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, height_ratios=bars).ravel()
    shares = [1 / case.ratio(arm) for case in cases for arm in case.arms]
    for case, panel in zip(cases, panels, strict=False):
        draw_case(case, panel)
        panel.set_xlim(min(shares) / 1.5, max(shares) * 4)
    for panel in panels[len(cases) :]:
        panel.axis("off")
    patches = [Patch(color=colour, label=label) for label, colour in COLOURS.items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False)
    figure.savefig(path, dpi=100)


def draw_case(case: Case, panel: Axes) -> None:
    """Draw the fastest arm at the top."""
    arms = sorted(case.arms, key=lambda arm: arm.rate)
    shares = [1 / case.ratio(arm) for arm in arms]
    drawn = panel.barh([arm.name for arm in arms], shares, color=[colour_of(arm) for arm in arms], height=0.7)
    panel.bar_label(drawn, [f"{share:.2g}" for share in shares], fontsize=9, padding=3)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
    panel.xaxis.minorticks_off()
    panel.axvline(1, color=COLOURS["ours"], linewidth=0.8, zorder=0)
    ours = case.arms[0]
    panel.set_title(f"{case.name}: ours = 1 is {ours.rate:,.0f} {ours.unit}/s", fontsize=11, loc="right")
    panel.tick_params(labelsize=9)
    panel.spines[["top", "right"]].set_visible(False)


def colour_of(arm: Arm) -> str:
    ours, peers, no_loader = COLOURS.values()
    return ours if is_ours(arm.name) else no_loader if needs_no_loader(arm.name) else peers


# -- scaling -------------------------------------------------------------------------------------------------------


def draw_scaling(cases: list[Case], path: Path) -> None:
    """Write the picture: first those with bare processes beside ours, then those that tell what a sample costs."""
    from matplotlib.figure import Figure

    speedups: dict[str, list[Case]] = {}
    costs = []
    for case in cases:
        if any(needs_no_loader(arm.name) for arm in case.arms):
            speedups.setdefault(case.name.rpartition(",")[0], []).append(case)
        else:
            costs.append(case)
    columns = min(3, len(speedups) + len(costs))
    rows = -(-(len(speedups) + len(costs)) // columns)
    figure = Figure(figsize=(5 * columns, 3.6 * rows), layout="constrained")
    panels = iter(figure.subplots(rows, columns, squeeze=False).ravel())
    for name, of_name in speedups.items():
        draw_speedup(name, of_name, next(panels))
    for case in costs:
        draw_cost(case, next(panels))
    for panel in panels:
        panel.axis("off")
    figure.savefig(path, dpi=100)


def draw_speedup(name: str, cases: list[Case], panel: Axes) -> None:
    """Draw how many times faster than one bare process so many are."""
    ours, bare = [points_of([case.arms[0] for case in cases]), points_of([case.arms[-1] for case in cases])]
    one = bare[0][1]
    for label, points in (("bare processes", bare), ("ours", ours)):
        colour = COLOURS["ours"] if label == "ours" else list(COLOURS.values())[2]
        panel.plot(*zip(*((at, rate / one) for at, rate in points), strict=True), marker="o", color=colour, label=label)
    panel.set_title(f"{name}: times one bare process", fontsize=11, loc="left")
    panel.set_xlabel("workers")
    panel.set_xticks([at for at, _ in ours])
    panel.set_ylim(0)
    panel.legend(frameon=False)


def draw_cost(case: Case, panel: Axes) -> None:
    """Draw the CPU of a sample."""
    points = sorted((arm.lines[0]["at"], arm.cpu_microseconds) for arm in case.arms)
    panel.plot(*zip(*points, strict=True), marker="o", color=COLOURS["ours"])
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_ylim(min(cost for _, cost in points) / 3, 3 * max(cost for _, cost in points))  # what is flat looks flat
    panel.set_title(f"{case.name}: CPU microseconds a sample", fontsize=11, loc="left")


def points_of(arms: list[Arm]) -> list[tuple[int, float]]:
    return sorted((arm.lines[0]["at"], arm.rate) for arm in arms)
