"""What of a plan's weights streams, which activations are made again, and what both cost."""

from __future__ import annotations

from planner.report.text import by_shape, safe
from planner.spec.plan import Plan
from planner.spec.streaming import StreamingPlan
from planner.units import format_duration, format_size


def rows(plan: Plan) -> list[tuple[str, str]]:
    """What of the weights stays, and what not keeping all of them costs."""
    found = plan.streaming
    if found is None:
        return []
    return [*_again(plan), *_moved(plan, found)]


def _again(plan: Plan) -> list[tuple[str, str]]:
    found = plan.streaming
    if found is None or not found.recomputed:
        return []
    added = by_shape(plan, found.recompute_us or {})
    times = [f"{safe(plan.label(name))}{format_duration(us)}" for name, us in added.items()]
    names = ", ".join(each.tensor for each in found.recomputed)
    text = (
        f"{names}: {', '.join(times)} more, since keeping everything would take "
        f"{format_size(found.whole_size_bytes)}"
    )
    return [("made again", safe(text))]


def _moved(plan: Plan, found: StreamingPlan) -> list[tuple[str, str]]:
    if not found.streamed_parts:
        return [
            ("streams", "nothing; weights are mapped, since loading copies would take too much")
        ]
    looked_up = ""
    if found.table_size_bytes:
        looked_up = f"; rows of {format_size(found.table_size_bytes)} are read where they lie"
    slower = [
        f"{safe(plan.label(name))}{plan.prediction.latency_p50_us[name].expected / us:.2f}x"
        for name, us in by_shape(plan, found.resident_us).items()
    ]
    return [
        (
            "streams",
            f"{format_size(found.streamed_size_bytes)} of weights come with every run, in "
            f"{found.streamed_parts} of {found.parts} parts, "
            f"{format_size(found.buffer_size_bytes)} of them there at a time; "
            f"{format_size(found.resident_size_bytes)} stay{looked_up}",
        ),
        (
            "instead of",
            f"{format_size(found.whole_size_bytes)} with all weights in memory: "
            f"{', '.join(slower)} their time",
        ),
    ]
