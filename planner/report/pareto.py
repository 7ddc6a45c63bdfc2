"""The trade-off curve for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import formats_text, percent, safe
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.units import format_duration, format_size

BAR_WIDTH = 12


def render(curve: ParetoCurve) -> RenderableType:
    """One line a point, fastest first, with a bar for the latency."""
    slowest_us = max((point.latency_us.expected for point in curve.points), default=0.0)
    columns = [
        _Column("plan", lambda point: safe(point.name)),
        _Column("p50", lambda point: format_duration(point.latency_us.expected)),
        _Column("", lambda point: _bar(point, slowest_us)),
        _Column("devices", lambda point: safe(point.layout or ""), is_optional=True),
        _Column("USD/h", lambda point: _price(point.price_per_hour), is_optional=True),
        _Column("USD/1M", lambda point: _price(1e6 * (point.price_per_query or 0.0)), True),
        _Column("memory", lambda point: format_size(point.memory_size_bytes)),
        _Column("error", lambda point: f"{point.error:.1e}"),
        _Column("gap", lambda point: "" if point.gap is None else percent(point.gap), True),
        _Column("formats", lambda point: safe(formats_text(point.formats))),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown = [each for each in columns if each.is_shown(curve.points)]
    for each in shown:
        table.add_column(each.title, overflow="fold", no_wrap=not each.title)
    for point in curve.points:
        table.add_row(*(each.text(point) for each in shown))
    title = Text(f"infopt pareto · {curve.model}", style="bold")
    notes = [Text(f"! {warning}", style="yellow") for warning in curve.warnings]
    return Group(title, table, *notes)


@dataclass(frozen=True, slots=True)
class _Column:
    """What a column says of each point."""

    title: str
    text: Callable[[ParetoPoint], str]
    is_optional: bool = False
    """Left out where it says nothing of any point."""

    def is_shown(self, points: Sequence[ParetoPoint]) -> bool:
        return not self.is_optional or any(map(self.text, points))


def _bar(point: ParetoPoint, slowest_us: float) -> str:
    share = point.latency_us.expected / slowest_us if slowest_us else 0.0
    return "█" * max(1, round(BAR_WIDTH * share))


def _price(value: float) -> str:
    return f"{value:.3g}" if value else ""
