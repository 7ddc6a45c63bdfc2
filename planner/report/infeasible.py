"""A request that cannot be met: which lines conflict, and how far each would have to give way."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import facts, safe
from planner.spec.conflict import ConflictingLimit, ConflictReport, amount, sufficient
from planner.units import format_duration

_HOW = "nearest: with every other limit kept. In each conflict, one limit that gives way is enough."


def render(report: ConflictReport) -> RenderableType:
    """The report for a terminal."""
    word, style = ("feasible", "bold green") if report.feasible else ("infeasible", "bold red")
    parts: list[RenderableType] = [
        Text(f"{word} \u00b7 {report.model}", style=style, overflow="fold"),
        facts(_facts(report)),
    ]
    if report.limits:
        parts += [Text(), _limits(report), Text(_HOW, style="dim")]
    return Group(*parts)


def _facts(report: ConflictReport) -> list[tuple[str, str]]:
    name = f"p{report.latency_percentile:g}"
    fastest = "none: the other limits cannot be kept, however slow"
    if report.fastest_us is not None:
        fastest = f"{name} {format_duration(report.fastest_us)} with every other limit kept"
    found = [("found", safe(report.reason)), ("fastest plan", fastest)]
    if report.feasible:
        found.append(("next", "infopt plan: its guard measures whether what was predicted holds"))
    return found


def _limits(report: ConflictReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("conflict", "limit", "written at", "asked", "nearest feasible"):
        table.add_column(title, overflow="fold")
    for before, limit in zip((None, *report.limits), report.limits, strict=False):
        is_new = before is None or before.conflict != limit.conflict
        table.add_row(
            str(limit.conflict) if is_new else "",
            safe(limit.key),
            safe(limit.origin or ""),
            amount(limit.value, limit.unit),
            _nearest(limit),
        )
    return table


def _nearest(limit: ConflictingLimit) -> str:
    """The value and what is proved of it."""
    if limit.unit == "drop":
        return "only measuring tells"
    if limit.nearest is None:
        return "not found in time" if limit.is_open else "none"
    value, proved = sufficient(limit.nearest, limit.unit), limit.proved
    if proved is None or amount(proved, limit.unit) == amount(limit.nearest, limit.unit):
        return value
    return f"{value} (proved: nothing nearer than {amount(proved, limit.unit)})"
