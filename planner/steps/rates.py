"""Whether an engine sustains the promised throughput."""

from __future__ import annotations

from collections.abc import Mapping

from planner.report import throughput
from planner.spec.plan import Plan
from planner.spec.verdict import Check


def throughput_checks(plan: Plan, p50_us: Mapping[str, float]) -> list[Check]:
    """Whether calls one after the other sustain what was promised.

    Stages of several devices work on different calls at the same time, which such calls do not
    show: there nothing is checked. Where a plan says where operators run, a query is as many calls
    of each shape as the workload says, and rates count queries, as the solver does (C9).
    """
    rate_per_s = plan.promise.throughput_per_s
    if rate_per_s is None or len({stage.ranks for stage in plan.execution}) > 1:
        return []
    shares = {shape.name: shape.weight for shape in plan.workload}
    calls = 1.0 if plan.placement is not None else sum(shares.values())
    query_us = sum(shares[name] * us for name, us in p50_us.items()) / calls
    detail = throughput.compared(1e6 / query_us, rate_per_s, "measured")
    return [Check(name="throughput", passed=1e6 / query_us >= rate_per_s, detail=detail)]
