"""A promised throughput, and whether a plan sustains it."""

from __future__ import annotations

from planner.report.text import predicted_p50_us, shipped_timing
from planner.spec.plan import Plan
from planner.units import format_rate


def per_s(plan: Plan) -> tuple[float, str]:
    """Inferences per second over the workload, and whether that was `measured` or `predicted`.

    One after the other; stages work on different ones at the same time, so the slowest decides.
    """
    timing = shipped_timing(plan)
    if timing is not None:
        return 1e6 / timing.p50_us, "measured"
    if plan.placement is None:
        return 1e6 / predicted_p50_us(plan), "predicted"
    busy_us = (
        sum(shape.weight * stage.latency_us[shape.name] for shape in plan.workload)
        for stage in plan.placement.stages
    )
    return 1e6 / max(busy_us), "predicted"


def is_kept(plan: Plan) -> bool:
    """Whether as much as promised is sustained; so where nothing was."""
    rate = plan.promise.throughput_per_s
    return rate is None or per_s(plan)[0] >= rate


def text(plan: Plan) -> str | None:
    """`812.4/s measured, at least 500/s`; None where nothing was promised."""
    rate = plan.promise.throughput_per_s
    if rate is None:
        return None
    found, basis = per_s(plan)
    return compared(found, rate, basis)


def compared(found_per_s: float, rate_per_s: float, basis: str) -> str:
    """What is sustained beside what was promised."""
    return f"{format_rate(found_per_s)} {basis}, at least {format_rate(rate_per_s)}"


def verdict(plan: Plan) -> list[str]:
    """The same with `kept` or `broken`, as rich markup; nothing where nothing was promised."""
    found = text(plan)
    word = "[green]kept[/]" if is_kept(plan) else "[red]broken[/]"
    return [] if found is None else [f"{found}: {word}"]
