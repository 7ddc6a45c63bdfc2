"""The report for people: one HTML file, no network, no script it cannot do without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.report import html_placement, svg, throughput
from planner.report.explain import runner_up_text
from planner.report.html_table import table
from planner.report.markup import clean
from planner.report.summary import accuracy_text, certificate
from planner.report.text import (
    SHIPPED,
    by_shape,
    count_formats,
    formats_text,
    measured_shapes,
    percent,
    predicted_p50_us,
    shipped_timing,
    slowest_shape,
    unprovable_text,
    worst_slo_us,
)
from planner.spec.plan import Decision, Plan, Timing
from planner.units import format_duration, format_size

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def of_plan(plan: Plan, command: str) -> str:
    """The whole report; `command` reproduces the plan."""
    sections = (
        _head(plan),
        _tiles(plan),
        _latency(plan),
        _variants(plan),
        html_placement.section(plan),
        _layers(plan.decisions),
        _rejected(plan),
        _certificate(plan),
        f"<h2>Reproduce</h2><pre>{clean(command)}</pre>",
    )
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    title = f"infopt: {clean(plan.model.path)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{title}</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _head(plan: Plan) -> str:
    verdict, style = _verdict(plan)
    unprovable = unprovable_text(plan)
    texts = (f"accuracy {unprovable}", *plan.warnings) if unprovable else plan.warnings
    warnings = "".join(f'<p class="warn">⚠ {clean(text)}</p>' for text in texts)
    return (
        f"<h1>{clean(plan.model.path)}</h1>"
        f'<p class="{style}"><b>{clean(verdict)}</b></p>'
        f'<p class="soft">{clean(plan.environment.device)}, ONNX Runtime '
        f"{clean(plan.environment.onnxruntime)}, infopt {clean(plan.environment.infopt)}</p>"
        f"{warnings}"
    )


def _verdict(plan: Plan) -> tuple[str, str]:
    """What the reader came for, in one sentence, and its colour."""
    timing = shipped_timing(plan)
    what = SHIPPED[plan.shipped]
    speed = ""
    if timing is not None and plan.shipped != "plain":
        speed = f", {timing.ratio:.2f}x as fast as plain ONNX Runtime"
    rate = throughput.text(plan)
    if not throughput.is_kept(plan):
        return f"The promise is broken: {rate}.", "bad"
    rate = "" if rate is None else f", {rate}"
    limit = plan.promise.latency_us
    if limit is None:
        return f"Ships {what}{speed}{rate}.", "good"
    found = timing.slo_us if timing else worst_slo_us(plan)
    name = f"p{plan.promise.latency_percentile:g}"
    label = plan.label(slowest_shape(plan))
    value = format_duration(found) + ("" if timing else " predicted,")
    text = f"{label}{name} {value} of the {format_duration(limit)} promised"
    if found > limit:
        return f"The promise is broken: {text}.", "bad"
    return f"Ships {what}: {text}{speed}{rate}.", "good"


def _tiles(plan: Plan) -> str:
    timing = shipped_timing(plan)
    over = ", mean over the workload" if len(plan.workload) > 1 else ""
    tiles = [(format_duration(predicted_p50_us(plan)), f"p50 predicted{over}")]
    if timing is not None:
        tiles += [
            (format_duration(timing.p50_us), f"p50 measured{over}"),
            (
                f"{timing.ratio:.2f}x",
                f"vs plain [{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}]",
            ),
        ]
    tiles += [
        (format_size(plan.prediction.memory_size_bytes.expected), "memory"),
        (_error(plan.accuracy.measured_error), "error (NMSE) at the outputs"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{clean(v)}</b><span>{clean(k)}</span></div>' for v, k in tiles
    )
    formats = formats_text(count_formats(plan))
    decided, ops = len(plan.decisions), plan.model.ops
    which = f"the {ops}" if decided == ops else f"{decided} of {ops}"
    return (
        f'<div class="tiles">{cells}</div>'
        f"<p>Formats of {which} operators: {clean(formats)}.</p>"
        f"<p>Accuracy: {clean(accuracy_text(plan))}.</p>"
    )


def _latency(plan: Plan) -> str:
    rows = [
        svg.Span(
            f"{plan.label(name)}predicted p50", value.low, value.expected, value.high, "predicted"
        )
        for name, value in by_shape(plan, plan.prediction.latency_p50_us).items()
    ]
    rows += [
        svg.Span(
            f"{plan.label(name)}measured p50 .. p99", found.p50_us, found.p50_us, found.p99_us,
            "measured",
        )
        for name, found in measured_shapes(plan).items()
    ]  # fmt: skip
    figure = svg.spans(rows, plan.promise.latency_us)
    title = "Predicted and measured" if measured_shapes(plan) else "Predicted"
    return f'<h2>{title}</h2><div class="scroll">{figure}</div>'


def _variants(plan: Plan) -> str:
    guard = plan.guard
    if guard is None:
        return ""
    rows = [_variant(timing, timing.name == guard.shipped) for timing in guard.timings]
    head = ("variant", "p50", "p99", "vs plain", "95 % interval", "peak memory", "")
    rows += [row for timing in guard.timings for row in _variant_by_shape(plan, timing)]
    control = (
        f"Timed in turns, one process each. Plain ONNX Runtime against itself: "
        f"{guard.control_low:.3f} .. {guard.control_high:.3f}; a variant ships only if it beats "
        f"the plain graph, called in the same way, by {guard.threshold:.3f}x. Shipped is "
        f"{guard.shipped}: {guard.reason}."
    )
    return (
        f"<h2>Alternatives, measured</h2>{table(head, rows, numbers=(1, 2, 3, 4, 5))}"
        f'<p class="soft">{clean(control)}</p>'
    )


def _variant(timing: Timing, ships: bool) -> tuple[str, ...]:
    memory = timing.memory_size_bytes
    return (
        f"{clean(timing.name)}{' ✓' if ships else ''}",
        format_duration(timing.p50_us),
        format_duration(timing.p99_us),
        f"{timing.ratio:.2f}x",
        f"{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}",
        format_size(memory) if memory is not None else "",
        clean(timing.note),
    )


def _variant_by_shape(plan: Plan, timing: Timing) -> list[tuple[str, ...]]:
    """The same on each shape, where there are several."""
    return [
        (
            f"{clean(plan.label(name))}{clean(timing.name)}",
            format_duration(found.p50_us),
            format_duration(found.p99_us),
            f"{found.ratio:.2f}x",
            *("", "", ""),
        )
        for name, found in by_shape(plan, timing.shapes).items()
        if plan.label(name)
    ]


def _layers(decisions: Sequence[Decision]) -> str:
    total = sum(decision.predicted_us for decision in decisions) or 1.0
    rows = [_layer(decision, decision.predicted_us / total) for decision in decisions]
    head = ("layer", "type", "chosen", "time", "", "error", "because", "runner-up would cost")
    return f"<h2>Layers</h2>{table(head, rows, numbers=(3, 5))}"


def _layer(decision: Decision, share: float) -> tuple[str, ...]:
    return (
        clean(decision.op),
        clean(decision.op_type),
        clean(decision.format),
        f"{format_duration(decision.predicted_us)}, {percent(share, 0)}" if share else "",
        svg.bar(share, 80) if share else "",
        _error(decision.error),
        clean(decision.reason),
        clean(runner_up_text(decision.runner_up)),
    )


def _error(nmse: float) -> str:
    return f"{nmse:.1e}" if nmse else "0"


def _rejected(plan: Plan) -> str:
    if not plan.rejected:
        return ""
    rows = [(clean(r.op), clean(r.format), clean(r.reason)) for r in plan.rejected]
    body = table(("layer", "format", "why it was not offered"), rows)
    title = f"{len(plan.rejected)} option{'s' * (len(plan.rejected) != 1)}"
    return f"<h2>Not offered</h2><details><summary>{title}</summary>{body}</details>"


def _certificate(plan: Plan) -> str:
    binding = ", ".join(plan.solver.binding) or "nothing: no limit is tight"
    return (
        f"<h2>Certificate</h2><p>{clean(certificate(plan))}.</p>"
        f"<p>Limited by {clean(binding)}.</p>"
        f'<p class="soft">Model SHA-256 {clean(plan.model.sha256)}<br>'
        f"Plan SHA-256 {clean(plan.digest)}</p>"
    )
