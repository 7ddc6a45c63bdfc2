"""What changed between two plans, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.report.text import (
    change,
    measured_shapes,
    predicted_p50_us,
    safe,
    shipped_timing,
)
from planner.spec.plan import Plan, WorkloadShape
from planner.units import format_duration, format_size

MAX_LAYERS = 40


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; `before` and `after` as people read them."""

    what: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diff:
    """Causes (inputs that differ), effects (figures that moved), and layers decided differently."""

    causes: tuple[Change, ...]
    effects: tuple[Change, ...]
    layers: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the plans say the same."""
        return not (self.causes or self.effects or self.layers)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(before: Plan, after: Plan) -> Diff:
    """Everything that differs between two plans."""
    return Diff(_causes(before, after), _effects(before, after), _layers(before, after))


def _causes(before: Plan, after: Plan) -> tuple[Change, ...]:
    inputs: dict[str, Callable[[Plan], str]] = {
        "model": lambda plan: f"{plan.model.path} ({plan.model.sha256[:12]})",
        "infopt": lambda plan: plan.environment.infopt,
        "ONNX Runtime": lambda plan: plan.environment.onnxruntime,
        "device": lambda plan: f"{plan.environment.device} ({plan.environment.device_digest[:12]})",
        "workload": lambda plan: ", ".join(map(_entry, plan.workload)),
        "seed": lambda plan: str(plan.solver.seed),
        "objective": lambda plan: " then ".join(plan.solver.objectives),
    }
    found = [(what, read(before), read(after)) for what, read in inputs.items()]
    promised = after.promise.model_dump()
    found += [
        (f"promise {name}", _limit(name, value), _limit(name, promised[name]))
        for name, value in before.promise.model_dump().items()
    ]
    return tuple(Change(what, old, new) for what, old, new in found if old != new)


def _entry(shape: WorkloadShape) -> str:
    """`speech (audio 1x16000) x0.8`."""
    inputs = (
        f"{name} {'x'.join(map(str, dims)) or 'scalar'}" for name, dims in shape.shapes.items()
    )
    return f"{shape.name} ({', '.join(inputs)}) x{shape.weight:g}"


def _limit(name: str, value: Any) -> str:
    """A limit as people write it."""
    if value is None:
        return "no limit"
    if name.endswith("_us"):
        return format_duration(value)
    return format_size(value) if name.endswith("_bytes") else str(value)


def _layout(plan: Plan) -> str:
    """Devices and how they share the model; nothing for plans of one machine's own device."""
    found = plan.placement
    return f"{found.devices} x {found.device}: {found.layout}" if found else ""


def _shared(plan: Plan) -> str:
    """What generated kernels were tuned with, part by part; nothing where they were not."""
    if plan.fusion is None:
        return ""
    parts = (one for bucket in plan.fusion.buckets for one in bucket.segments)
    known = [one.shared_percent for one in parts if one.shared_percent is not None]
    return ", ".join(f"{p} %" if p >= 0 else "as the driver chooses" for p in known)


def _price(plan: Plan) -> str:
    found = plan.placement
    if found is None or found.price_per_hour is None or found.price_per_query is None:
        return ""
    return f"{found.price_per_hour:.2f} USD/h, {found.price_per_query:.3g} USD/query"


def _effects(before: Plan, after: Plan) -> tuple[Change, ...]:
    old_timing, new_timing = shipped_timing(before), shipped_timing(after)
    figures = [
        ("predicted p50", predicted_p50_us(before), predicted_p50_us(after), format_duration),
        (
            "memory",
            before.prediction.memory_size_bytes.expected,
            after.prediction.memory_size_bytes.expected,
            format_size,
        ),
        ("error", before.accuracy.measured_error, after.accuracy.measured_error, "{:.3g}".format),
    ]
    figures += _by_shape(before, after)
    if old_timing and new_timing:
        figures += [
            ("measured p50", old_timing.p50_us, new_timing.p50_us, format_duration),
            ("speed vs plain", old_timing.ratio, new_timing.ratio, "{:.2f}x".format),
        ]
    moved = [
        Change(what, show(old), show(new), change(old, new))
        for what, old, new, show in figures
        if old != new
    ]
    names = [
        ("ships", before.shipped, after.shipped),
        ("session", before.settings.name, after.settings.name),
        ("solver", before.solver.status, after.solver.status),
        ("accuracy verdict", before.accuracy.verdict, after.accuracy.verdict),
        ("limited by", ", ".join(before.solver.binding), ", ".join(after.solver.binding)),
        ("shared memory", _shared(before), _shared(after)),
        ("layout", _layout(before), _layout(after)),
        ("price", _price(before), _price(after)),
    ]
    return (*moved, *(Change(what, old, new) for what, old, new in names if old != new))


def _by_shape(before: Plan, after: Plan) -> list[tuple[str, float, float, Callable[[float], str]]]:
    """Predicted and measured p50 of each shape that both plans serve, where there are several."""
    predicted, measured = (
        [plan.prediction.latency_p50_us for plan in (before, after)],
        [measured_shapes(plan) for plan in (before, after)],
    )
    found: list[tuple[str, float, float, Callable[[float], str]]] = []
    for name in (shape.name for shape in after.workload if after.label(shape.name)):
        if all(name in each for each in predicted):
            old, new = (each[name].expected for each in predicted)
            found.append((f"{after.label(name)}predicted p50", old, new, format_duration))
        if all(name in each for each in measured):
            old, new = (each[name].p50_us for each in measured)
            found.append((f"{after.label(name)}measured p50", old, new, format_duration))
    return found


def _layers(before: Plan, after: Plan) -> tuple[Change, ...]:
    old = {decision.op: decision for decision in before.decisions}
    new = {decision.op: decision for decision in after.decisions}
    changed = []
    for op in dict.fromkeys((*old, *new)):
        was, now = old.get(op), new.get(op)
        old_format, new_format = (was.format if was else "absent", now.format if now else "absent")
        if old_format != new_format:
            reason = now.reason if now else "the operator is gone"
            changed.append(Change(op, old_format, new_format, reason))
    return tuple(changed)


def render(diff: Diff) -> RenderableType:
    """The diff for a terminal."""
    if diff.is_empty:
        return Text("the plans are the same")
    parts: list[RenderableType] = []
    for title, changes in (("what differs going in", diff.causes), ("what moved", diff.effects)):
        if changes:
            parts += [_table(title, changes), Text()]
    if diff.layers:
        moves = Counter((layer.before, layer.after) for layer in diff.layers)
        text = ", ".join(f"{count} {old} -> {new}" for (old, new), count in moves.most_common())
        parts.append(_table(f"layers: {text}", diff.layers[:MAX_LAYERS], note="because"))
    if len(diff.layers) > MAX_LAYERS:
        parts.append(Text(f"and {len(diff.layers) - MAX_LAYERS} more layers (--json lists all)"))
    return Group(*parts)


def _table(title: str, changes: tuple[Change, ...], note: str = "change") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=safe(title))
    table.title_justify = "left"
    for name in ("what", "before", "after", note):
        table.add_column(name, overflow="fold")
    for entry in changes:
        table.add_row(safe(entry.what), safe(entry.before), safe(entry.after), safe(entry.note))
    return table
