"""A promised throughput: at the guard, at deploy, and with stages that work side by side."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from planner.errors import VerificationError
from planner.report import throughput
from planner.spec.execution import StageExecution
from planner.spec.plan import Promise, WorkloadShape
from planner.steps.raced import refuse_low_rate
from planner.steps.rates import throughput_checks
from tests.plans import make_plan, timing

TWO = (
    WorkloadShape(name="short", shapes={"x": (1, 8)}, weight=3.0),
    WorkloadShape(name="long", shapes={"x": (1, 64)}, weight=1.0),
)


@pytest.mark.parametrize(("rate", "is_kept"), [(4_999.0, True), (5_001.0, False)])
def test_an_engine_is_held_to_it_over_its_workload(rate: float, is_kept: bool) -> None:
    """Three calls of 100 us and one of 500: four in 800 us."""
    plan = make_plan(workload=TWO, promise=Promise(throughput_per_s=rate))
    (found,) = throughput_checks(plan, {"short": 100.0, "long": 500.0})
    assert found.passed is is_kept
    assert found.detail == f"5000/s measured, at least {rate:.0f}/s"


@pytest.mark.parametrize(("rate", "is_kept"), [(1_249.0, True), (1_251.0, False)])
def test_of_a_query_of_many_calls_it_counts_queries(rate: float, is_kept: bool) -> None:
    """Three calls of 100 us and one of 500 are one query, as what was planned counts them."""
    stage = SimpleNamespace(latency_us={"short": 100.0, "long": 500.0})
    plan = make_plan(workload=TWO, promise=Promise(throughput_per_s=rate), guard=None)
    placed = plan.model_copy(update={"placement": SimpleNamespace(stages=(stage,))})
    (found,) = throughput_checks(placed, stage.latency_us)
    assert found.passed is is_kept is throughput.is_kept(placed)
    assert found.detail.startswith("1250/s measured")


def test_nothing_is_checked_where_nothing_was_promised_or_calls_do_not_show_it() -> None:
    assert throughput_checks(make_plan(), {"default": 1.0}) == []
    stages = (StageExecution(ops=("a",)), StageExecution(ops=("b",), ranks=(1,)))
    plan = make_plan(promise=Promise(throughput_per_s=1e9), execution=stages)
    assert throughput_checks(plan, {"default": 1.0}) == []


def test_the_guard_ships_nothing_that_is_measured_to_break_it() -> None:
    timings = {"plan": timing("plan", 250.0), "int8": timing("int8", 200.0)}
    refuse_low_rate(4_000.0, timings["plan"], timings)
    refuse_low_rate(None, timings["plan"], timings)
    with pytest.raises(VerificationError, match="measured 4000/s, promised 4500/s") as refused:
        refuse_low_rate(4_500.0, timings["plan"], timings)
    assert refused.value.fix == "the best variant measured is int8: 5000/s"


def test_without_timings_the_prediction_counts() -> None:
    assert throughput.per_s(make_plan(guard=None)) == (4_000.0, "predicted")
