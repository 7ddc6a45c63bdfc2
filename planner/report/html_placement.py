"""The HTML report of a plan for several devices: stages, where time goes, the alternatives."""

from __future__ import annotations

from planner.report import svg
from planner.report.html_table import table
from planner.report.markup import clean
from planner.report.placement import interval
from planner.report.text import formats_text, percent
from planner.spec.estimate import Estimate
from planner.spec.placement import Alternative, Breakdown, StagePlan
from planner.spec.plan import Plan
from planner.units import format_duration, format_size

_STAGES = ("stage", "GPUs", "groups", "memory of each", "used", "weights as", "streamed per run")
_PARTS = (
    "shape",
    "predicted",
    "compute",
    "memory",
    "communication",
    "launch",
    "exposed swap",
    "floor",
)
_ALTERNATIVES = ("alternative", "layout", "weights as", "query", "gap", "USD/query", "error")
_BAR = 160
"""Pixels."""


def section(plan: Plan) -> str:
    """Stages on devices, where time goes, and the alternatives; nothing for other plans."""
    found = plan.placement
    if found is None:
        return ""
    stages = [_stage(number, stage) for number, stage in enumerate(found.stages, 1)]
    times = [
        _times(shape.name, plan.prediction.latency_p50_us[shape.name], part)
        for shape in plan.workload
        if (part := found.breakdown.get(shape.name)) is not None
    ]
    others = [_alternative(each) for each in found.alternatives]
    return (
        f"<h2>Placement</h2><p>{clean(f'{found.devices} x {found.device}: {found.layout}')}. "
        f"The SLO costs {clean(found.slo_cost)}.</p>"
        f"{table(_STAGES, stages, numbers=(1, 2, 4, 6))}"
        f"<h2>Where time goes</h2>{table(_PARTS, times, numbers=range(1, len(_PARTS)))}"
        f"<h2>Alternatives</h2>{table(_ALTERNATIVES, others, numbers=(3, 4, 5, 6))}"
    )


def _stage(number: int, stage: StagePlan) -> tuple[str, ...]:
    memory = stage.memory
    return (
        str(number),
        str(stage.devices),
        str(stage.groups),
        svg.bar(min(memory.used / max(memory.capacity, 1), 1.0), _BAR),
        f"{format_size(memory.used)} of {format_size(memory.capacity)}",
        clean(formats_text(stage.formats)),
        format_size(stage.streamed_size_bytes) if stage.streamed_size_bytes else "",
    )


def _times(shape: str, predicted: Estimate, part: Breakdown) -> tuple[str, ...]:
    parts_us = (
        part.compute_us,
        part.memory_us,
        part.communication_us,
        part.launch_us,
        part.swap_us,
        part.floor_us,
    )
    return (
        clean(shape),
        f"{format_duration(predicted.expected)} [{interval(predicted.low, predicted.high)}]",
        *map(format_duration, parts_us),
    )


def _alternative(each: Alternative) -> tuple[str, ...]:
    return (
        clean(f"{each.name}: {each.status}"),
        clean(each.layout or each.reason),
        clean(formats_text(each.formats) if each.formats else ""),
        format_duration(each.query_us) if each.query_us is not None else "",
        percent(each.gap, 1) if each.gap is not None else "",
        f"{each.price_per_query:.3g}" if each.price_per_query is not None else "",
        f"{each.error:.1e}" if each.error is not None else "",
    )
