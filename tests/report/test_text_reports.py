"""Terminal reports: golden texts at 80 columns, and text that cannot harm a terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import RenderableType

from planner import resources
from planner.errors import UsageError
from planner.report import (
    devices,
    diff,
    dry_run,
    explain,
    html,
    infeasible,
    markdown,
    pareto,
    summary,
    verdict,
)
from planner.report.text import to_text
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.spec.plan import AccuracyReport, Plan, Promise, RunnerUp, WorkloadShape
from planner.spec.profile import read_profile
from planner.spec.verdict import Check, DryRun, PendingMeasurement, Verdict
from tests.plans import DECISIONS, estimate, make_conflict, make_plan, shape_timing, timing

HOSTILE = "layer\x1b[31m[red]</td><script>alert(1)</script>"


def moved_plan() -> Plan:
    """Another promise, another format, faster."""
    guard = make_plan().guard
    assert guard is not None
    moved = DECISIONS[2].model_copy(update={"format": "int8_dynamic", "reason": "budget allows it"})
    return make_plan(
        promise=Promise(latency_us=10_000.0, max_error=1e-2),
        decisions=(*DECISIONS[:2], moved),
        guard=guard.model_copy(update={"timings": (timing("plan", 210.0), *guard.timings[1:])}),
    )


def verdict_of(passed: bool) -> Verdict:
    return Verdict(
        engine="engine",
        passed=passed,
        checks=(
            Check(name="files", passed=True, detail="12 files, every SHA-256 matches"),
            Check(name="latency", passed=passed, detail="p99 332 us, promised 20 ms"),
        ),
        predicted_us={"default": estimate(250.0)},
        measured_us={"default": estimate(255.0)},
    )


CURVE = ParetoCurve(
    model="model.onnx",
    points=tuple(
        ParetoPoint(
            name=name,
            latency_us=estimate(latency_us),
            memory_size_bytes=6_000_000,
            error=error,
            formats={"int8_dynamic": 2, "fp32": 1},
            status="optimal",
        )
        for name, latency_us, error in (("fastest", 200.0, 1e-2), ("closest", 400.0, 1e-6))
    ),
)
DRY = DryRun(
    model="model.onnx",
    ops=3,
    parameters=1_200_000,
    weights_size_bytes=4_800_000,
    workload=(WorkloadShape(shapes={"x": (1, 64), "scale": ()}),),
    measured=4,
    pending=(PendingMeasurement(kernel="MatMul 1x64 64x64", ops=2, variants=("fp32", "int8")),),
)
REPORTS: dict[str, Callable[[], RenderableType]] = {
    "infeasible": lambda: infeasible.render(
        make_conflict().written_at({"slo.latency.p99": "c.yaml:3", "target.memory": "--memory"})
    ),
    "feasible": lambda: infeasible.render(
        make_conflict(feasible=True, limits=(), fastest_us=80.0, reason="every limit can be kept")
    ),
    "summary": lambda: summary.summary(make_plan(warnings=("a warning",))),
    "explain": lambda: explain.explain(make_plan()),
    "explain-layers": lambda: explain.explain(make_plan(), "encoder/*"),
    "diff": lambda: diff.render(diff.compare(make_plan(), moved_plan())),
    "verdict-kept": lambda: verdict.render(verdict_of(True)),
    "verdict-broken": lambda: verdict.render(verdict_of(False)),
    "pareto": lambda: pareto.render(CURVE),
    "dry-run": lambda: dry_run.render(DRY),
    "device": lambda: devices.details(read_profile(resources.folder("profiles") / "l4-24gb.yaml")),
}


@pytest.mark.parametrize("name", list(REPORTS))
def test_reports_read_as_agreed(golden: Callable[[str, str], None], name: str) -> None:
    text = to_text(REPORTS[name](), width=80)
    golden(f"report/{name}.txt", "\n".join(line.rstrip() for line in text.splitlines()) + "\n")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", list(REPORTS))
def test_reports_fit_the_terminal(name: str, width: int) -> None:
    assert max(len(line) for line in to_text(REPORTS[name](), width).splitlines()) <= width


def test_an_unprovable_drop_names_the_samples_it_would_take() -> None:
    accuracy = AccuracyReport(
        calibrated=True,
        samples=100,
        predicted_error=1e-3,
        measured_error=1e-3,
        metric="top1",
        baseline=0.98,
        value=0.98,
        drop=0.0,
        drop_high=0.03,
        verdict="unprovable",
        samples_needed=600,
    )
    plan = make_plan(accuracy=accuracy, promise=Promise(max_drop=0.005, metric="top1"))
    text = summary.accuracy_text(plan)
    assert "drop <= 3.00 % at 95 %, limit 0.50 %; unprovable; 600 evaluation samples" in text
    shown = to_text(summary.summary(plan), width=200)
    assert shown.splitlines()[1].startswith("! accuracy unprovable: the evaluation data cannot")
    assert "a drop of top1 within 0.50 % at 95 % (600 evaluation samples would)" in shown
    assert "no latency limit was given" in shown
    for page in (html.of_plan(plan, "infopt plan"), markdown.of_plan(plan)):
        assert "accuracy unprovable" in page.split("figure")[0]


def test_the_drop_of_a_loss_is_no_percentage() -> None:
    accuracy = make_plan().accuracy.model_copy(
        update={"metric": "mse", "baseline": 0.04, "value": 0.0404, "drop_high": 5e-4}
    )
    relative = Promise(max_drop=0.02, metric="mse", is_drop_relative=True)
    text = summary.accuracy_text(make_plan(accuracy=accuracy, promise=relative))
    assert "drop <= 0.0005 at 95 %, limit 2.00 % of 0.04" in text
    plain = Promise(max_drop=0.001, metric="mse")
    text = summary.accuracy_text(make_plan(accuracy=accuracy, promise=plain))
    assert "limit 0.001" in text


def test_a_plan_without_timings_is_judged_by_its_prediction() -> None:
    text = to_text(summary.summary(make_plan(guard=None)))
    assert "predicted, upper end" in text
    assert "timed against each other" not in text


def shaped_plan(long_us: float = 700.0) -> Plan:
    """Two shapes: eight of ten runs take 250 us, the others `long_us`."""
    by_shape = {"short": shape_timing(250.0, 300.0), "long": shape_timing(long_us, 800.0)}
    shipped = timing("plan", 340.0, slo_us=910.0, shapes=by_shape)
    guard = make_plan().guard
    assert guard is not None
    found = {"long": estimate(720.0), "short": estimate(240.0)}
    return make_plan(
        workload=(
            WorkloadShape(name="short", shapes={"x": (1, 16)}, weight=0.8),
            WorkloadShape(name="long", shapes={"x": (1, 128)}, weight=0.2),
        ),
        prediction=make_plan().prediction.model_copy(
            update={"latency_p50_us": found, "latency_slo_us": found}
        ),
        promise=Promise(latency_us=800.0),
        guard=guard.model_copy(update={"timings": (shipped, timing("plain", 400.0))}),
    )


def test_several_shapes_go_by_their_names_in_the_order_of_the_workload() -> None:
    plan = shaped_plan()
    text = " ".join(to_text(summary.summary(plan)).split())
    for words in (
        "predicted short: p50 240 us",
        "parts predicted long: p50 720 us",
        "measured short: p50 250 us, +4.2 % off the prediction",
        "prediction measured long: p50 700 us, -2.8 % off the prediction",
        "over the workload; short: 1.20x, long: 1.14x",
        "promise long: p99 910 us measured, limit 800 us: broken",
    ):
        assert words in text
    assert "over the workload (short, long)" in to_text(explain.explain(plan))
    assert "long: p50 measured | 700 us, 1.14x plain ONNX Runtime" in markdown.of_plan(plan)
    page = html.of_plan(plan, "infopt plan")
    assert "long: p99 910 us of the 800 us promised" in page
    assert ">long: plan</td>" in page
    untimed = plan.model_copy(update={"guard": None})
    assert "us predicted, of the 800 us promised" in html.of_plan(untimed, "infopt plan")


def test_shapes_that_moved_are_told() -> None:
    found = diff.compare(shaped_plan(), shaped_plan(long_us=600.0))
    assert {moved.what: moved.note for moved in found.effects} == {"long: measured p50": "-14.3 %"}


def test_where_nothing_else_was_offered_no_format_is_named() -> None:
    nothing = RunnerUp(format="", delta_us=None, delta_error=None, reason="no other was offered")
    assert explain.runner_up_text(nothing) == "no other was offered"


def test_a_broken_promise_is_said() -> None:
    plan = make_plan(promise=Promise(latency_us=100.0))
    assert "limit 100 us: broken" in to_text(summary.summary(plan))


@pytest.mark.parametrize(("rate", "word"), [(3000.0, "kept"), (5000.0, "broken")])
def test_a_promised_throughput_is_judged_beside_the_latency(rate: float, word: str) -> None:
    alone = make_plan(promise=Promise(throughput_per_s=rate))
    text = " ".join(to_text(summary.summary(alone)).split())
    assert f"promise 3922/s measured, at least {rate:.0f}/s: {word}" in text
    both = make_plan(promise=Promise(latency_us=400.0, throughput_per_s=rate))
    text = " ".join(to_text(summary.summary(both)).split())
    assert f"limit 400 us: kept; 3922/s measured, at least {rate:.0f}/s: {word}" in text
    page = html.of_plan(both, "infopt plan")
    assert ("The promise is broken: 3922/s" in page) == (word == "broken")


def test_names_from_models_are_text_and_nothing_else() -> None:
    named = DECISIONS[0].model_copy(update={"op": HOSTILE, "reason": "[bold]x[/bold]"})
    plan = make_plan(decisions=(named,))
    for report in (explain.explain(plan), explain.explain(plan, HOSTILE), summary.summary(plan)):
        text = to_text(report, width=200)
        assert "\x1b" not in text
        assert "[bold]x[/bold]" in text or "�[31m[red]" in text


def test_a_layer_that_is_none_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'head/MatMul'"):
        explain.matching(make_plan(), "head/Matmul")
    with pytest.raises(UsageError, match="lists all layers"):
        explain.matching(make_plan(), "zzzz")


def test_equal_plans_differ_in_nothing() -> None:
    found = diff.compare(make_plan(), make_plan())
    assert found.is_empty
    assert "the same" in to_text(diff.render(found))


def test_layers_that_come_and_go_are_seen() -> None:
    found = diff.compare(make_plan(decisions=DECISIONS[:2]), make_plan(decisions=DECISIONS[1:]))
    assert [(change.what, change.before, change.after) for change in found.layers] == [
        ("encoder/MatMul", "int8_dynamic", "absent"),
        ("head/MatMul", "absent", "fp32"),
    ]
