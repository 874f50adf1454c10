"""The picture on docs/performance.md: a panel for each case, a bar for each arm, its rate relative to ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Case, is_ours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
OURS, PEER, NO_LOADER = "#1b6ca8", "#b5651d", "#9a9a9a"


def draw(cases: list[Case], path: Path) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    from benchmarks.report import NO_LOADER as prefixes

    rows = -(-len(cases) // COLUMNS)
    bars = [max(len(case.arms) for case in cases[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(rows)]
    figure = Figure(figsize=(14, 0.27 * sum(bars) + 0.9 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, height_ratios=bars).ravel()
    for case, panel in zip(cases, panels, strict=False):
        draw_case(case, panel, prefixes)
    for panel in panels[len(cases) :]:
        panel.axis("off")
    figure.savefig(path, dpi=110)


def draw_case(case: Case, panel: Axes, no_loader: tuple[str, ...]) -> None:
    arms = sorted(case.arms, key=lambda arm: arm.rate)
    ours = case.arms[0].rate
    colours = [OURS if is_ours(arm.name) else NO_LOADER if arm.name.startswith(no_loader) else PEER for arm in arms]
    drawn = panel.barh([arm.name for arm in arms], [arm.rate / ours for arm in arms], color=colours, height=0.7)
    panel.bar_label(drawn, [f" {arm.rate / ours:.2g}" for arm in arms], fontsize=8)
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    panel.set_xlim(min(low, 0.5), high * 2)
    panel.axvline(1, color=OURS, linewidth=0.8)
    panel.set_title(f"{case.name}: {case.arms[0].unit}/s, ours = 1 ({ours:,.0f})", fontsize=10, loc="left")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
