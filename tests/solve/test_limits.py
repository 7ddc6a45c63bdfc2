"""Which limits a plan is bounded by, told from what it uses."""

from __future__ import annotations

from dataclasses import replace

from planner.ir.problem import Limits
from planner.solve.limits import tight, used
from planner.solve.solve import solve
from tests.solve.problems import chain


def test_limits_that_are_used_up_are_named_and_others_are_not() -> None:
    problem = chain(3, Limits(error=0.002, latency_us=1e6))
    plan = solve(problem)
    assert plan.totals is not None
    assert plan.totals.error == 0.002
    assert tight(problem, plan) == ("error",)
    snug = replace(problem, limits=Limits(latency_us=used(problem, plan, "latency_us")))
    assert tight(snug, plan) == ("latency_us",)
    assert tight(replace(problem, limits=Limits(error=1.0)), plan) == ()


def test_what_must_be_exceeded_is_tight_from_the_other_side() -> None:
    problem = chain(2)
    plan = solve(problem)
    rate = used(problem, plan, "throughput_per_s")
    for share, expected in ((1.0, ("throughput_per_s",)), (0.5, ())):
        asked = replace(problem, limits=Limits(throughput_per_s=share * rate))
        assert tight(asked, plan) == expected
