"""The verdict of a deployment: every check, and predicted against measured."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import change, safe
from planner.spec.plan import Estimate
from planner.spec.verdict import Verdict
from planner.units import format_duration


def render(verdict: Verdict) -> RenderableType:
    """The verdict for a terminal."""
    word = "keeps its promise" if verdict.passed else "does NOT keep its promise"
    style = "bold green" if verdict.passed else "bold red"
    if verdict.passed and verdict.is_unverified:
        word, style = "is complete, and unverified: its device is not here", "bold yellow"
    parts: list[RenderableType] = [
        Text(f"{verdict.engine} {word}", style=style),
        _checks(verdict),
    ]
    if verdict.measured_us:
        parts += [Text(), _latencies(verdict)]
    parts += [Text(f"! {warning}", style="yellow") for warning in verdict.warnings]
    return Group(*parts)


def failures(verdict: Verdict) -> str:
    """The failed checks in one line each."""
    return "; ".join(
        f"{check.name}: {check.detail}" for check in verdict.checks if not check.passed
    )


def _checks(verdict: Verdict) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for check in verdict.checks:
        mark = "[green]ok[/]" if check.passed else "[red]FAILED[/]"
        table.add_row(mark, safe(check.name), safe(check.detail))
    return table


def _latencies(verdict: Verdict) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("workload", "predicted p50", "measured p50", "off by"):
        table.add_column(name, overflow="fold")
    for name, measured in verdict.measured_us.items():
        predicted = verdict.predicted_us.get(name)
        table.add_row(
            safe(name),
            _range(predicted) if predicted else "",
            _range(measured),
            change(predicted.expected, measured.expected) if predicted else "",
        )
    return table


def _range(estimate: Estimate) -> str:
    low, high = format_duration(estimate.low), format_duration(estimate.high)
    return f"{format_duration(estimate.expected)} [{low} .. {high}]"
