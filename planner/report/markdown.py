"""Markdown summaries for pull requests and job pages."""

from __future__ import annotations

from collections.abc import Sequence

from planner.report.ci import GateResult
from planner.report.diff import Diff
from planner.report.summary import accuracy_text, certificate
from planner.report.text import (
    SHIPPED,
    by_shape,
    count_formats,
    formats_text,
    predicted_p50_us,
    shipped_timing,
    unprovable_text,
)
from planner.spec.plan import Plan, ShapeTiming
from planner.spec.verdict import Verdict
from planner.units import format_duration, format_size

MAX_LAYERS = 20


def of_plan(plan: Plan, results: Sequence[GateResult] = (), diff: Diff | None = None) -> str:
    """A plan, its gate and its difference to the baseline."""
    failed = [result for result in results if not result.passed]
    mark = "❌" if failed else "✅"
    lines = [f"### {mark} infopt plan: `{cell(plan.model.path)}`", ""]
    unprovable = unprovable_text(plan)
    if unprovable is not None:
        lines += [f"> \u26a0\ufe0f accuracy {cell(unprovable)}", ""]
    lines += _figures(plan)
    if results:
        lines += [
            "",
            *_table(("gate", "", "detail"), [_row(r.rule, r.passed, r.detail) for r in results]),
        ]
    if diff is not None and not diff.is_empty:
        lines += ["", *_difference(diff)]
    lines += ["", *(f"> ⚠️ {cell(warning)}" for warning in plan.warnings)]
    return "\n".join(lines).rstrip() + "\n"


def of_refusal(model: str, refusal: GateResult) -> str:
    """Why there is no plan."""
    detail = "\n".join(f"> {cell(line)}" for line in refusal.detail.splitlines())
    return f"### ❌ infopt plan: `{cell(model)}`\n\n{detail}\n"


def of_verdict(verdict: Verdict) -> str:
    """The verdict of a deployment."""
    mark = "✅" if verdict.passed else "❌"
    rows = [_row(check.name, check.passed, check.detail) for check in verdict.checks]
    lines = [f"### {mark} infopt deploy: `{cell(verdict.engine)}`", ""]
    lines += _table(("check", "", "detail"), rows)
    lines += ["", *(f"> ⚠️ {cell(warning)}" for warning in verdict.warnings)]
    return "\n".join(lines).rstrip() + "\n"


def _figures(plan: Plan) -> list[str]:
    timing = shipped_timing(plan)
    rows = [
        ("ships", SHIPPED[plan.shipped]),
        ("formats", formats_text(count_formats(plan))),
        ("p50 predicted", format_duration(predicted_p50_us(plan))),
    ]
    if timing is not None:
        interval = f"{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}"
        rows += [
            ("p50 measured", format_duration(timing.p50_us)),
            ("vs plain ONNX Runtime", f"{timing.ratio:.2f}x ({interval})"),
            *(
                (f"{plan.label(name)}p50 measured", _of_shape(found))
                for name, found in by_shape(plan, timing.shapes).items()
                if plan.label(name)
            ),
        ]
    rows += [
        ("memory", format_size(plan.prediction.memory_size_bytes.expected)),
        ("accuracy", accuracy_text(plan)),
        ("solver", certificate(plan)),
        ("device", plan.environment.device),
    ]
    return _table(("figure", "value"), rows)


def _of_shape(found: ShapeTiming) -> str:
    return f"{format_duration(found.p50_us)}, {found.ratio:.2f}x plain ONNX Runtime"


def _difference(diff: Diff) -> list[str]:
    rows = [(c.what, c.before, c.after, c.note) for c in (*diff.causes, *diff.effects)]
    lines = _table(("against the baseline", "before", "after", "change"), rows) if rows else []
    if not diff.layers:
        return lines
    layers = [(c.what, c.before, c.after, c.note) for c in diff.layers[:MAX_LAYERS]]
    lines += ["", f"<details><summary>{len(diff.layers)} layers decided differently</summary>", ""]
    lines += _table(("layer", "before", "after", "because"), layers)
    return [*lines, "", "</details>"]


def _row(name: str, passed: bool, detail: str) -> tuple[str, str, str]:
    return name, "✅" if passed else "❌", detail


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]


def cell(text: str) -> str:
    """Text that cannot break out of a table cell or of a code span."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for mark, kept in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'")):
        plain = plain.replace(mark, kept)
    return plain
