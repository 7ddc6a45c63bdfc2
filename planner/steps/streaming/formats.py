"""What changes in plan.json where formats were chosen with residency."""

from __future__ import annotations

from planner.compress.base import NATIVE
from planner.spec.plan import Decision, Plan
from planner.steps.choices import smoothing_of
from planner.steps.document import error_estimate, ranges_of
from planner.steps.entrants import error_sum
from planner.steps.streaming.document import Fit
from planner.steps.streaming.mix import Jointly

_JOINT = "chosen together with where its weights rest"


def with_formats(plan: Plan, fit: Fit, mixer: Jointly) -> Plan:
    """The plan in the formats of the mix that was built."""
    case, variant = mixer.case, fit.mix.variant
    assert variant is not None, "a joint choice builds a variant"
    realised = variant.realised
    expected = mixer.scale * error_sum(variant, case.errors)
    basis = case.accuracy.model(()).basis if realised else "proved"
    report = case.accuracy.report(case.accuracy.measure_fully(variant), expected, None, basis)
    error = error_estimate(expected)
    return plan.model_copy(
        update={
            "formats": {op: str(form) for op, form in sorted(realised.items())},
            "ranges": ranges_of(case.choices, realised),
            "smoothing": smoothing_of(case.choices.smoothing, realised),
            "accuracy": report,
            "prediction": plan.prediction.model_copy(update={"error": error}),
            "decisions": tuple(_decided(each, fit, mixer) for each in plan.decisions),
        }
    )


def _decided(decision: Decision, fit: Fit, mixer: Jointly) -> Decision:
    """An operator's format, and its run's time at its first operator."""
    number = next((n for n, run in enumerate(fit.runs) if decision.op in run.ops), None)
    form = fit.mix.formats.get(decision.op, NATIVE)
    if number is None:
        return decision
    run, way = fit.runs[number], fit.chosen[number]
    spans = way.streamed if fit.streams[number] and way.streamed is not None else way.resident
    shares = [shape.share for shape in mixer.case.prepared.shapes]
    time_us = sum(share * span.expected_us for share, span in zip(shares, spans, strict=True))
    where = "stream" if fit.streams[number] else "stay"
    changed = str(form) != decision.format
    return decision.model_copy(
        update={
            "group": run.ops[0],
            "format": str(form),
            "predicted_us": time_us if decision.op == run.ops[0] else 0.0,
            "error": mixer.case.errors.get((decision.op, form), 0.0),
            "runner_up": None if changed else decision.runner_up,
            "reason": f"{_JOINT}; its weights {where}" if changed else decision.reason,
        }
    )
