"""The CI gate: a plan against its promises and against the baseline plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import InfoptError, RegressionError
from planner.report import throughput
from planner.report.text import (
    change,
    predicted_p50_us,
    shipped_timing,
    slowest_shape,
    unprovable_text,
    worst_slo_us,
)
from planner.spec.ci import FailRule
from planner.spec.plan import Plan
from planner.units import format_duration, format_size


@dataclass(frozen=True, slots=True)
class GateResult:
    """One rule of `ci.fail_on`, applied."""

    rule: str
    passed: bool
    detail: str


def gate(plan: Plan, baseline: Plan | None, rules: Sequence[FailRule]) -> tuple[GateResult, ...]:
    """Applies every rule; a rule that compares needs `baseline`."""
    return tuple(_apply(rule, plan, baseline) for rule in rules)


def promises(plan: Plan) -> tuple[GateResult, ...]:
    """What a report shows where no rule was asked for: the plan's own promises."""
    return gate(plan, None, (FailRule(quantity="slo"), FailRule(quantity="accuracy")))


def refused(error: InfoptError) -> GateResult:
    """What a report shows where there is no plan."""
    return GateResult("plan", False, error.text)


def enforce(results: Sequence[GateResult], where: str | None = None) -> None:
    """Passes, or says which rules failed.

    Raises:
        RegressionError: at least one rule failed.
    """
    failed = [f"{result.rule}: {result.detail}" for result in results if not result.passed]
    if failed:
        raise RegressionError(
            "; ".join(failed),
            where=where,
            fix="`infopt diff` of the two plans shows what changed; accept it by replacing the "
            "baseline plan",
        )


def _apply(rule: FailRule, plan: Plan, baseline: Plan | None) -> GateResult:
    if rule.quantity == "slo":
        return _slo(rule, plan)
    if rule.quantity == "accuracy":
        return _accuracy(rule, plan)
    if baseline is None:
        return GateResult(rule.text, False, "there is no baseline plan to compare with")
    if baseline.environment.device_digest != plan.environment.device_digest and (
        rule.quantity == "latency"
    ):
        return GateResult(
            rule.text,
            False,
            f"the baseline was measured on another device ({baseline.environment.device}): "
            "latencies do not compare",
        )
    return _compared(rule, plan, baseline)


def _slo(rule: FailRule, plan: Plan) -> GateResult:
    limit = plan.promise.latency_us
    timing = shipped_timing(plan)
    found = timing.slo_us if timing else worst_slo_us(plan)
    basis = "measured" if timing else "predicted, upper end"
    name = f"p{plan.promise.latency_percentile:g}"
    problems: list[str] = []
    facts: list[str] = []
    if limit is not None:
        label = plan.label(slowest_shape(plan))
        text = f"{label}{name} {format_duration(found)} ({basis}), limit {format_duration(limit)}"
        (facts if found <= limit else problems).append(text)
    rate = throughput.text(plan)
    if rate is not None:
        (facts if throughput.is_kept(plan) else problems).append(rate)
    return GateResult(rule.text, not problems, "; ".join(problems or facts) or "no slo was given")


def _accuracy(rule: FailRule, plan: Plan) -> GateResult:
    found = plan.accuracy
    if not found.is_kept:
        return GateResult(rule.text, False, f"the accuracy promise is {found.verdict}")
    unprovable = unprovable_text(plan)
    if unprovable is not None:
        return GateResult(rule.text, True, unprovable)
    budget = plan.promise.max_error
    if budget is None:
        return GateResult(rule.text, True, f"the accuracy promise is {found.verdict}")
    text = f"NMSE {found.measured_error:.2g}, budget {budget:.2g}"
    return GateResult(rule.text, found.measured_error <= budget, text)


def _compared(rule: FailRule, plan: Plan, baseline: Plan) -> GateResult:
    """Every quantity so that more is worse."""
    old, new = _figure(rule.quantity, baseline), _figure(rule.quantity, plan)
    is_speed = rule.quantity == "speedup"
    worse = old / new - 1 if is_speed and new else new - old if not old else new / old - 1
    text = f"{_shown(rule.quantity, old)} -> {_shown(rule.quantity, new)} ({change(old, new)})"
    allowed = f", {rule.tolerance * 100:g} % worse is allowed" if rule.tolerance else ""
    return GateResult(rule.text, worse <= rule.tolerance, text + allowed)


def _figure(quantity: str, plan: Plan) -> float:
    timing = shipped_timing(plan)
    if quantity == "memory":
        return plan.prediction.memory_size_bytes.expected
    if quantity == "error":
        return plan.accuracy.measured_error
    if quantity == "speedup":
        return timing.ratio if timing else 1.0
    return timing.p50_us if timing else predicted_p50_us(plan)


def _shown(quantity: str, value: float) -> str:
    if quantity == "memory":
        return format_size(value)
    if quantity == "latency":
        return format_duration(value)
    return f"{value:.2f}x" if quantity == "speedup" else f"{value:.2g}"
