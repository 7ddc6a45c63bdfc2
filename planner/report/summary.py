"""The terminal summary of a plan: what was decided and why, and what it is bounded by."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report import fusion, placement, streaming, throughput
from planner.report.text import (
    SHIPPED,
    by_shape,
    change,
    count_formats,
    drop_amount,
    drop_limit,
    facts,
    formats_text,
    interval,
    measured_shapes,
    percent,
    safe,
    shipped_timing,
    slowest_shape,
    unprovable_text,
    worst_slo_us,
)
from planner.spec.plan import Plan
from planner.units import format_duration, format_size

MAX_REASONS = 5


def summary(plan: Plan) -> RenderableType:
    """Everything a person wants to know first, in at most 80 columns."""
    if plan.placement is not None:
        return placement.summary(plan, plan.placement)
    model = plan.model
    title = Text(f"infopt plan · {model.path}", style="bold", overflow="fold")
    parts: list[RenderableType] = [title]
    unprovable = unprovable_text(plan)
    if unprovable is not None:
        parts.append(Text(f"! accuracy {unprovable}", style="bold yellow"))
    parts += [facts(_rows(plan)), Text()]
    if plan.guard is not None:
        parts += [_timings(plan), Text()]
    parts += [_reasons(plan)]
    parts += [Text(f"! {warning}", style="yellow") for warning in plan.warnings]
    return Group(*parts)


def _rows(plan: Plan) -> list[tuple[str, str]]:
    model = plan.model
    return [
        (
            "model",
            f"{model.ops} operators, {model.parameters:,} parameters, "
            f"{format_size(model.size_bytes)}",
        ),
        ("ships", safe(_ships(plan))),
        ("formats", formats_text(count_formats(plan))),
        *fusion.rows(plan),
        *_latency_rows(plan),
        ("memory", _memory(plan)),
        *streaming.rows(plan),
        ("accuracy", safe(accuracy_text(plan))),
        ("limited by", safe(", ".join(plan.solver.binding) or "nothing: no limit is tight")),
        ("solver", safe(certificate(plan))),
        ("device", safe(plan.environment.device)),
    ]


def _ships(plan: Plan) -> str:
    if plan.fusion is not None:
        return f"generated kernels for {plan.fusion.device}, beside the library path"
    session = plan.settings
    threads = session.intra_op_threads
    threads_text = (
        f"{threads} thread{'s' * (threads != 1)}" if threads else "ONNX Runtime's threads"
    )
    idle = "spinning" if session.spinning else "sleeping"
    text = f"{SHIPPED[plan.shipped]}; {threads_text}, {idle}, graph level {session.graph_level}"
    return f"{text}: {plan.guard.reason}" if plan.guard and plan.guard.reason else text


def _latency_rows(plan: Plan) -> list[tuple[str, str]]:
    predicted = by_shape(plan, plan.prediction.latency_p50_us)
    rows = [
        ("predicted", f"{safe(plan.label(name))}p50 {interval(value)}")
        for name, value in predicted.items()
    ]
    rows += [
        ("measured", _measured(plan.label(name), predicted[name].expected, found.p50_us))
        for name, found in measured_shapes(plan).items()
    ]
    timing = shipped_timing(plan)
    if timing is not None:
        speed = f"{timing.ratio:.2f}x plain ONNX Runtime"
        spread = f"[{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}]"
        rows.append(("speed", f"{speed} {spread}{safe(_by_shape(plan))}"))
    return [*rows, ("promise", _promise(plan))]


def _measured(label: str, predicted_us: float, p50_us: float) -> str:
    off = change(predicted_us, p50_us)
    return f"{safe(label)}p50 {format_duration(p50_us)}, {off} off the prediction"


def _by_shape(plan: Plan) -> str:
    """`; short: 1.20x, long: 2.10x`; nothing where there is one shape only."""
    found = {plan.label(name): timing.ratio for name, timing in measured_shapes(plan).items()}
    parts = [f"{label}{ratio:.2f}x" for label, ratio in found.items() if label]
    return f" over the workload; {', '.join(parts)}" if parts else ""


def _promise(plan: Plan) -> str:
    """Whether latency and throughput are kept."""
    rates = throughput.verdict(plan)
    if plan.promise.latency_us is None:
        return rates[0] if rates else "no latency limit was given"
    return "; ".join([_latency_promise(plan, plan.promise.latency_us), *rates])


def _latency_promise(plan: Plan, limit: float) -> str:
    timing = shipped_timing(plan)
    name = f"p{plan.promise.latency_percentile:g}"
    worst = worst_slo_us(plan)
    found = timing.slo_us if timing else worst
    basis = "measured" if timing else "predicted, upper end"
    is_kept = found <= limit
    verdict = "[green]kept[/]" if is_kept else "[red]broken[/]"
    label = safe(plan.label(slowest_shape(plan)))
    return (
        f"{label}{name} {format_duration(found)} {basis}, limit {format_duration(limit)}: {verdict}"
    )


def _memory(plan: Plan) -> str:
    predicted = plan.prediction.memory_size_bytes
    text = f"{format_size(predicted.expected)} {predicted.source}"
    timing = shipped_timing(plan)
    if timing is not None and timing.memory_size_bytes is not None:
        text += f", {format_size(timing.memory_size_bytes)} peak of the process"
    limit = plan.promise.memory_size_bytes
    return f"{text}, limit {format_size(limit)}" if limit is not None else text


def accuracy_text(plan: Plan) -> str:
    """What compression did to the answers, and whether the promise holds."""
    found, promise = plan.accuracy, plan.promise
    basis = found.basis if found.calibrated else "uncalibrated"
    parts = [f"NMSE {found.measured_error:.2g} ({basis}, {found.samples} samples)"]
    if promise.max_error is not None:
        parts.append(f"budget {promise.max_error:.2g}")
    if found.metric is not None and found.value is not None and found.baseline is not None:
        parts.append(f"{found.metric} {found.baseline:.4g} -> {found.value:.4g}")
    if promise.max_drop is not None:
        bound = found.drop_high
        high = "unknown" if bound is None else f"<= {drop_amount(bound, found.metric)}"
        confidence = percent(promise.confidence, 0)
        parts.append(f"drop {high} at {confidence}, limit {drop_limit(plan)}")
    if found.verdict != "not asked":
        parts.append(found.verdict)
    if found.samples_needed is not None:
        parts.append(f"{found.samples_needed} evaluation samples would prove it")
    return "; ".join(parts)


def certificate(plan: Plan) -> str:
    """The solver's proof in one line."""
    solver = plan.solver
    gap = "unknown gap" if solver.gap is None else f"gap {percent(solver.gap, 2)}"
    limit = ", stopped by the time limit" if solver.hit_time_limit else ""
    rounds = f", {solver.rounds} rounds" if solver.rounds > 1 else ""
    goals = " then ".join(solver.objectives)
    return (
        f"{solver.status}, {gap} ({solver.solver}): least {goals} "
        f"among {solver.options} options x {solver.settings} settings{rounds}{limit}"
    )


def _timings(plan: Plan) -> Table:
    if plan.guard is None:
        return Table()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("timed against each other", overflow="fold")
    percentile = f"p{plan.promise.latency_percentile:g}"
    for name in ("p50", percentile if percentile != "p50" else "p99", "vs plain", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for timing in plan.guard.timings:
        ships = timing.name == plan.guard.shipped
        tail_us = timing.slo_us if percentile != "p50" else timing.p99_us
        table.add_row(
            safe(timing.name) + (" <- ships" if ships else ""),
            format_duration(timing.p50_us),
            format_duration(tail_us),
            f"{timing.ratio:.2f}x",
            f"{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}",
            style="bold" if ships else "",
        )
    table.caption = (
        f"A/A control {plan.guard.control_low:.3f} .. {plan.guard.control_high:.3f}; "
        f"a variant must win by {plan.guard.threshold:.3f}x"
    )
    table.caption_justify = "left"
    return table


def _reasons(plan: Plan) -> Table:
    """The decisions behind most of the predicted time, grouped by what was decided and why."""
    weight = Counter[tuple[str, str, str]]()
    ops = Counter[tuple[str, str, str]]()
    for decision in plan.decisions:
        key = (decision.op_type, decision.format, decision.reason)
        weight[key] += int(decision.predicted_us * 1e3)
        ops[key] += 1
    total = max(1, sum(weight.values()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("decided", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("because", overflow="fold")
    for (op_type, chosen, reason), nanoseconds in weight.most_common(MAX_REASONS):
        count = ops[op_type, chosen, reason]
        table.add_row(
            safe(f"{count} x {op_type} as {chosen}"),
            percent(nanoseconds / total, 0),
            safe(reason),
        )
    return table
