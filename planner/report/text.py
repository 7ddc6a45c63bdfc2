"""Shared pieces of terminal reports: numbers as people read them, tables that fit 80 columns."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from planner.spec.drop import LOSSES
from planner.spec.plan import Estimate, Plan, ShapeTiming, Timing
from planner.units import format_duration

T = TypeVar("T")
SHIPPED = {
    "plan": "the optimised plan",
    "uniform": "the best uniform plan",
    "plain": "plain ONNX Runtime",
}


def to_text(renderable: RenderableType, width: int = 100) -> str:
    """A renderable as plain text without colours."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, highlight=False).print(renderable)
    return buffer.getvalue()


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Two columns: what, and what is so. Cells hold rich markup; escape what users named."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def interval(estimate: Estimate) -> str:
    """`4.1 ms [3.9 ms .. 4.4 ms], from measured parts`."""
    low, high = format_duration(estimate.low), format_duration(estimate.high)
    return f"{format_duration(estimate.expected)} [{low} .. {high}], from {estimate.source} parts"


def count_formats(plan: Plan) -> dict[str, int]:
    """Operators per format, most frequent first."""
    return dict(Counter(decision.format for decision in plan.decisions).most_common())


def formats_text(formats: Mapping[str, int]) -> str:
    """`12 int8, 30 fp32`."""
    return ", ".join(f"{count} {name}" for name, count in formats.items()) or "none"


def shipped_timing(plan: Plan) -> Timing | None:
    """The guard's timing of the variant that ships; None where nothing was timed."""
    if plan.guard is None:
        return None
    return next((t for t in plan.guard.timings if t.name == plan.guard.shipped), None)


def by_shape(plan: Plan, found: Mapping[str, T]) -> dict[str, T]:
    """In the order of the workload: documents are sorted by name."""
    return {shape.name: found[shape.name] for shape in plan.workload if shape.name in found}


def measured_shapes(plan: Plan) -> dict[str, ShapeTiming]:
    """The guard's timings of the variant that ships, by workload shape."""
    timing = shipped_timing(plan)
    return by_shape(plan, timing.shapes) if timing is not None else {}


def slowest_shape(plan: Plan) -> str:
    """The shape whose latency at the promise's percentile is highest: measured, else predicted."""
    tails = {name: found.slo_us for name, found in measured_shapes(plan).items()}
    predicted = {name: found.high for name, found in plan.prediction.latency_slo_us.items()}
    return max(tails or predicted, key=lambda name: (tails or predicted)[name], default="")


def predicted_p50_us(plan: Plan) -> float:
    """Predicted p50 over the workload, weighted."""
    total = sum(shape.weight for shape in plan.workload)
    predicted = plan.prediction.latency_p50_us
    known = [shape for shape in plan.workload if shape.name in predicted]
    return sum(shape.weight * predicted[shape.name].expected for shape in known) / total


def worst_slo_us(plan: Plan) -> float:
    """Upper end of the predicted latency at the promise's percentile, slowest workload shape."""
    return max((value.high for value in plan.prediction.latency_slo_us.values()), default=0.0)


def unprovable_text(plan: Plan) -> str | None:
    """What an `unprovable` accuracy promise means, and what would prove it; None where it is none.

    Native formats change no answer, so the promise holds, but not by anything that was measured.
    """
    if plan.accuracy.verdict != "unprovable":
        return None
    needed = plan.accuracy.samples_needed
    enough = f"{needed} evaluation samples would" if needed else "no number of samples would"
    confidence = percent(plan.promise.confidence, 0)
    return (
        f"unprovable: the evaluation data cannot show that any compression keeps {drop_text(plan)} "
        f"at {confidence} ({enough}); every operator keeps its own format, which changes no answer"
    )


def drop_text(plan: Plan) -> str:
    """`a drop of top1 within 0.50 %`."""
    metric = plan.accuracy.metric
    return f"a drop{f' of {safe(metric)}' if metric else ''} within {drop_limit(plan)}"


def drop_limit(plan: Plan) -> str:
    """The largest drop that was allowed: `0.50 %`, `2.00 % of 0.0312`, `0.01`."""
    limit = plan.promise.max_drop or 0.0
    if plan.promise.is_drop_relative:
        return f"{percent(limit, 2)} of {plan.accuracy.baseline or 0.0:.4g}"
    return drop_amount(limit, plan.accuracy.metric)


def drop_amount(drop: float, metric: str | None) -> str:
    """A drop in the metric's own unit; points where the metric is a share."""
    return f"{drop:.3g}" if metric in LOSSES else percent(drop, 2)


def percent(share: float, digits: int = 1) -> str:
    """0.0123 -> `1.2 %`."""
    return f"{share * 100:.{digits}f} %"


def change(before: float, after: float) -> str:
    """`+4.2 %`; `new` where there was nothing to compare with."""
    if before == 0:
        return "same" if after == 0 else "new"
    return f"{(after / before - 1) * 100:+.1f} %"


def safe(text: str) -> str:
    """Text that users or models named, kept from being read as markup or terminal control."""
    return escape("".join(c if c.isprintable() else "�" for c in text))
