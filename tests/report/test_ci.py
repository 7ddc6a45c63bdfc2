"""The CI gate: promises by themselves, figures against the baseline."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import RegressionError
from planner.report import ci
from planner.spec.ci import FailRule
from planner.spec.plan import Plan, Promise
from tests.plans import estimate, make_plan, timing


def timed(p50_us: float, **changes: Any) -> Plan:
    """The plan, shipping a variant of this speed."""
    guard = make_plan().guard
    assert guard is not None
    return make_plan(
        guard=guard.model_copy(update={"timings": (timing("plan", p50_us),)}), **changes
    )


def rule(text: str) -> FailRule:
    """As in YAML: `latency>5%`."""
    quantity, _, tolerance = text.partition(">")
    share = float(tolerance.rstrip("%")) / 100 if tolerance else 0.0
    return FailRule.model_validate({"quantity": quantity, "tolerance": share})


@pytest.mark.parametrize(
    ("text", "p50_us", "passed"),
    [
        ("latency>5%", 255.0 * 1.04, True),
        ("latency>5%", 255.0 * 1.06, False),
        ("latency", 255.0, True),
        ("latency", 255.1, False),
        ("latency>5%", 100.0, True),
        ("speedup>5%", 255.0 * 1.04, True),
        ("speedup>5%", 255.0 * 1.06, False),
        ("memory>10%", 999.0, True),
        ("error", 999.0, True),
    ],
)
def test_figures_against_the_baseline(text: str, p50_us: float, passed: bool) -> None:
    (result,) = ci.gate(timed(p50_us), make_plan(), (rule(text),))
    assert (result.rule, result.passed) == (text, passed)
    assert "->" in result.detail


def test_memory_and_error_that_grow() -> None:
    prediction = make_plan().prediction.model_copy(
        update={"memory_size_bytes": estimate(9_000_000)}
    )
    accuracy = make_plan().accuracy.model_copy(update={"measured_error": 5.6e-4})
    worse = make_plan(prediction=prediction, accuracy=accuracy)
    results = ci.gate(worse, make_plan(), (rule("memory>10%"), rule("error>50%")))
    assert [result.passed for result in results] == [False, False]
    assert "+50.0 %" in results[0].detail
    assert "+100.0 %" in results[1].detail


def test_an_error_that_was_zero_may_not_appear() -> None:
    exact = make_plan(accuracy=make_plan().accuracy.model_copy(update={"measured_error": 0.0}))
    assert not ci.gate(make_plan(), exact, (rule("error"),))[0].passed
    assert ci.gate(exact, exact, (rule("error"),))[0].passed


@pytest.mark.parametrize(("limit_us", "passed"), [(400.0, True), (300.0, False)])
def test_the_slo_is_judged_by_what_was_measured(limit_us: float, passed: bool) -> None:
    plan = make_plan(promise=Promise(latency_us=limit_us, max_error=1e-3))
    (result,) = ci.gate(plan, None, (rule("slo"),))
    assert result.passed is passed
    assert "p99 332 us (measured)" in result.detail


def test_the_slo_without_timings_is_judged_by_the_upper_end() -> None:
    plan = make_plan(guard=None, promise=Promise(latency_us=330.0))
    (result,) = ci.gate(plan, None, (rule("slo"),))
    assert not result.passed
    assert "predicted, upper end" in result.detail


@pytest.mark.parametrize(("per_s", "passed"), [(3000.0, True), (5000.0, False)])
def test_throughput_is_part_of_the_slo(per_s: float, passed: bool) -> None:
    plan = make_plan(promise=Promise(throughput_per_s=per_s))
    assert ci.gate(plan, None, (rule("slo"),))[0].passed is passed


@pytest.mark.parametrize(
    ("verdict", "passed"), [("kept", True), ("broken", False), ("unprovable", True)]
)
def test_accuracy_is_kept_or_fails(verdict: str, passed: bool) -> None:
    """Unprovable plans ship native formats: the promise holds, and the reader is told why."""
    accuracy = make_plan().accuracy.model_copy(update={"verdict": verdict, "samples_needed": 600})
    plan = make_plan(accuracy=accuracy, promise=Promise(max_drop=0.005, metric="top1"))
    (result,) = ci.gate(plan, None, (rule("accuracy"),))
    assert result.passed is passed
    told = "600 evaluation samples would" in result.detail
    assert told == (verdict == "unprovable")


def test_an_error_over_its_budget_fails() -> None:
    accuracy = make_plan().accuracy.model_copy(update={"measured_error": 2e-3})
    assert not ci.gate(make_plan(accuracy=accuracy), None, (rule("accuracy"),))[0].passed


def test_latencies_of_two_devices_do_not_compare() -> None:
    elsewhere = make_plan().environment.model_copy(update={"device_digest": "ef" * 32})
    (result,) = ci.gate(make_plan(), make_plan(environment=elsewhere), (rule("latency>5%"),))
    assert not result.passed
    assert "another device" in result.detail


def test_a_comparison_without_baseline_fails() -> None:
    (result,) = ci.gate(make_plan(), None, (rule("memory"),))
    assert not result.passed


def test_every_failed_rule_is_named() -> None:
    results = (
        ci.GateResult("slo", False, "too slow"),
        ci.GateResult("accuracy", True, "kept"),
        ci.GateResult("memory", False, "too large"),
    )
    with pytest.raises(RegressionError, match="slo: too slow; memory: too large") as refused:
        ci.enforce(results, "plan.json")
    assert refused.value.exit_code == 7
    assert "infopt diff" in (refused.value.fix or "")
    ci.enforce(results[1:2])
