"""Activations that a plan for devices elsewhere makes again, and what that costs."""

from __future__ import annotations

from planner.report.text import safe
from planner.spec.plan import Plan
from planner.units import format_duration, format_size


def remade_rows(plan: Plan) -> list[tuple[str, str]]:
    """One line; none where all activations are kept."""
    found = plan.placement.recomputed if plan.placement is not None else ()
    if not found:
        return []
    size = format_size(sum(each.size_bytes for each in found))
    times = [
        f"{format_duration(sum(each.latency_us[shape.name] for each in found))} more for "
        f"{shape.name}"
        for shape in plan.workload
    ]
    names = ", ".join(each.tensor for each in found)
    text = f"{size} of activations ({names}) are not kept for late readers: {', '.join(times)}"
    return [("made again", safe(text))]
