"""The trade-off curve for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import formats_text, safe
from planner.spec.pareto import ParetoCurve
from planner.units import format_duration, format_size

BAR_WIDTH = 12


def render(curve: ParetoCurve) -> RenderableType:
    """One line a point, fastest first, with a bar for the latency."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("plan", "p50", "", "memory", "error", "formats"):
        table.add_column(name, overflow="fold", no_wrap=not name)
    slowest_us = max((point.latency_us.expected for point in curve.points), default=0.0)
    for point in curve.points:
        share = point.latency_us.expected / slowest_us if slowest_us else 0.0
        table.add_row(
            safe(point.name),
            format_duration(point.latency_us.expected),
            "█" * max(1, round(BAR_WIDTH * share)),
            format_size(point.memory_size_bytes),
            f"{point.error:.1e}",
            safe(formats_text(point.formats)),
        )
    title = Text(f"infopt pareto · {curve.model}", style="bold")
    notes = [Text(f"! {warning}", style="yellow") for warning in curve.warnings]
    return Group(title, table, *notes)
