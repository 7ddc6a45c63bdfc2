"""How the time and the gap of joint plans grow with operators, options and devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.joint_models import STRUCTURES, Case

OPERATORS = (200, 500, 1000, 2000)
OPTIONS = (6, 12, 18, 24, 30)
DEVICES = (1, 2, 4, 8, 32)
FEW = ("gpt", "switch")
"""Structures whose options and devices vary."""
FIXED_OPERATORS = 300
"""Operators where options or devices vary."""
FIXED_OPTIONS, FIXED_DEVICES = 30, 8
LEAST_GAP = 1e-6
"""What a closed gap is drawn as."""


@dataclass(frozen=True, slots=True)
class Size:
    """One point of the figure."""

    axis: str
    """What varies: `operators`, `options`, `devices`."""
    amount: int
    case: Case


def sizes(seed: int) -> Iterator[Size]:
    """Every point, small ones first."""
    for amount in OPERATORS:
        for name in STRUCTURES:
            yield Size("operators", amount, Case(name, amount, FIXED_DEVICES, FIXED_OPTIONS, seed))
    for amount in OPTIONS:
        for name in FEW:
            yield Size("options", amount, Case(name, FIXED_OPERATORS, FIXED_DEVICES, amount, seed))
    for amount in DEVICES:
        for name in FEW:
            yield Size("devices", amount, Case(name, FIXED_OPERATORS, amount, FIXED_OPTIONS, seed))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one point took."""

    axis: str
    amount: float
    structure: str
    seconds: float
    gap: float | None


def draw(points: Sequence[Measured], path: Path) -> None:
    """Log-log, a column for each axis, hollow where the time ended before a gap of 1 %; PNG or SVG
    by the name of the file. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(point.structure for point in points))
    figure, panels = pyplot.subplots(2, 3, figsize=(13, 7), sharey="row")
    for column, axis in enumerate(("operators", "options", "devices")):
        for number, structure in enumerate(names):
            mine = [p for p in points if (p.axis, p.structure) == (axis, structure)]
            mine = sorted((p for p in mine if p.gap is not None), key=lambda p: p.amount)
            across, colour = [p.amount for p in mine], f"C{number}"
            seconds = [p.seconds for p in mine]
            gaps = [max(100 * (p.gap or 0.0), 100 * LEAST_GAP) for p in mine]
            filled = [colour if gap <= 1.0 else "white" for gap in gaps]
            for row, values in enumerate((seconds, gaps)):
                panels[row][column].loglog(across, values, "-", color=colour, label=structure)
                panels[row][column].scatter(across, values, c=filled, edgecolors=colour, zorder=3)
        panels[1][column].set_xlabel(axis if axis != "options" else "options an operator, mean")
        panels[1][column].axhline(1.0, color="grey", linestyle=":", linewidth=1)
        for row in (0, 1):
            panels[row][column].grid(visible=True, which="both", alpha=0.25)
            panels[row][column].xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    panels[0][0].set_ylabel("seconds (hollow: limit reached)")
    panels[1][0].set_ylabel("gap reached, %")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
