"""What was tried beside the answer: other devices, and other numbers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from planner.report import prices
from planner.report.text import percent, safe
from planner.spec.placement import Alternative, PlacementPlan
from planner.spec.plan import Plan
from planner.units import format_duration, format_size

_AS_FAST = 1.01
"""Longest time, against another's, that is as good."""


def table(plan: Plan, placement: PlacementPlan) -> Table:
    """Those that have a plan, a row each."""
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    rows.add_column("alternatives", overflow="fold", min_width=11)
    rows.add_column("layout", overflow="fold", min_width=10)
    rows.add_column("weights as", overflow="fold")
    for shape in plan.workload:
        rows.add_column(safe(shape.name), justify="right", no_wrap=True)
    many, scale = (
        ("a million queries", prices.MILLION) if prices.is_small(placement) else ("one query", 1.0)
    )
    for name in ("query", "gap", "USD", "error"):
        rows.add_column(name, justify="right", no_wrap=True)
    rows.caption = f"gap: how far a better plan of that row may be, proved; USD: of {many}"
    rows.caption_justify = "left"
    for each in placement.alternatives:
        if each.query_us is not None:
            style = "bold" if each.status == "chosen" else ""
            note = each.reason or _in_vain(placement.alternatives, each, each.query_us)
            cells = _alternative(plan, each, each.query_us, note, scale)
            rows.add_row(*cells, style=style)
    return rows


def _in_vain(others: Sequence[Alternative], each: Alternative, query_us: float) -> str:
    """Whether fewer devices are as fast, as far as one can tell."""
    fewer = [
        other.devices
        for other in others
        if other.query_us is not None
        and not other.reason
        and other.devices < each.devices
        and other.query_us <= query_us * _AS_FAST
    ]
    return f"no faster than {min(fewer)} GPU{'s' * (min(fewer) > 1)}" if fewer else ""


def without_plan(placement: PlacementPlan) -> list[str]:
    """Alternatives that have none, those with one reason on one line."""
    found: dict[str, list[str]] = {}
    for each in placement.alternatives:
        if each.query_us is None:
            found.setdefault(f"{each.status}: {each.reason}", []).append(each.name)
    return [safe(f"{'; '.join(names)}: {reason}") for reason, names in found.items()]


def _alternative(
    plan: Plan, each: Alternative, query_us: float, told: str, scale: float
) -> tuple[str, ...]:
    mark = {"chosen": " <- chosen", "uncertain": " (uncertain)"}.get(each.status, "")
    note = f": {told}" if told else ""
    streams = f"; {format_size(each.streamed_size_bytes)} streamed"
    return (
        safe(f"{each.name}{mark}{note}"),
        safe(each.layout),
        safe(_counts(each.formats) + (streams if each.streamed_size_bytes else "")),
        *[format_duration(each.latency_us[shape.name]) for shape in plan.workload],
        format_duration(query_us),
        percent(each.gap, 1) if each.gap is not None else "?",
        f"{scale * each.price_per_query:.3g}" if each.price_per_query is not None else "",
        f"{each.error:.1e}" if each.error is not None else "",
    )


def _counts(formats: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in formats.items())
