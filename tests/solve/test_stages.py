"""Pipelines against enumeration, with all decision families."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import permutations
from time import monotonic

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check, priced, value
from planner.solve.solve import solve
from planner.solve.stages.exact import Exact
from planner.solve.stages.families import alone
from planner.solve.stages.neighbourhoods import improve
from planner.solve.stages.starts import ON_ONE_PLACE, one_after_another, ways
from planner.solve.validate import validate
from tests.solve.pipelines import Pipelines, plans

EXAMPLES = int(os.environ.get("INFOPT_EXAMPLES", "300"))
"""Random problems: more where the environment asks."""
Key = tuple[float, ...]


def key(problem: Problem, plan: Solution) -> Key:
    """Its objectives."""
    totals = priced(problem, plan)
    return tuple(value(totals, objective) for objective in problem.objectives)


def tail_us(problem: Problem, plan: Solution, end: str) -> float:
    """The slowest shape at the promise's percentile."""
    totals = priced(problem, plan)
    setting = next(s for s in problem.settings if s.name == plan.setting)
    ends: tuple[float, ...] = getattr(totals, f"latency_{end}_us")
    return max(setting.tail(shape, is_low=end == "low") * value for shape, value in enumerate(ends))


def best(problem: Problem) -> tuple[Key, str] | None:
    """The least objectives, and the end of the interval at which a plan exists, if one does."""
    unbounded = replace(problem, limits=replace(problem.limits, latency_us=None))
    feasible = [plan for plan in plans(problem) if not check(unbounded, plan)]
    slo = problem.limits.latency_us
    for end in ("high", "expected", "low"):
        kept = [p for p in feasible if slo is None or tail_us(problem, p, end) <= slo * (1 + 1e-12)]
        if kept:
            return min(key(problem, plan) for plan in kept), end
    return None


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_equals_enumeration(seed: int) -> None:
    problem = Pipelines(random.Random(seed)).problem()
    validate(problem)
    expected = best(problem)
    solution = solve(problem, workers=1)
    assert not check(problem, solution)
    if expected is None:
        assert solution.status is Status.INFEASIBLE
        return
    values, end = expected
    assert solution.status is Status.OPTIMAL
    assert solution.is_uncertain == (end != "high")
    for ours, theirs in zip(solution.objective, values, strict=True):
        assert abs(ours - theirs) <= 1e-7 * abs(theirs) + 1e-12


def test_neighbourhoods_keep_every_rule_and_never_lose() -> None:
    """From a poor plan of any stages: never worse, never below the optimum."""
    improved = compared = several = 0
    for seed in range(200):
        problem = replace(Pipelines(random.Random(seed)).problem(), pairs=())
        if problem.limits.latency_us is not None:
            continue
        best_plan = solve(problem, workers=1)
        found = [plan for plan in plans(problem) if not check(problem, plan)]
        if best_plan.totals is None or not found:
            continue
        found = [plan for plan in found if len(plan.stages) > 1] or found
        worst = max(found, key=lambda plan: key(problem, plan))
        state = Exact(problem, monotonic() + 5.0, 0.0, seed, 1)
        assert state.offer(worst, "start", 0.0, 0)
        improve(state, worst, monotonic() + 0.7, seed)
        assert state.best is not None
        assert not check(problem, state.best)
        assert state.values >= tuple(v * (1 - 1e-7) for v in best_plan.objective)
        assert state.values <= key(problem, worst)
        improved += state.values < key(problem, worst)
        compared += 1
        several += len(worst.stages) > 1
        if compared == 60:
            break
    assert improved >= 10
    assert several >= 10


def test_one_decision_after_another_keeps_every_rule() -> None:
    """Every plan that ends an order is a plan of the whole, and none is below the optimum."""
    found = 0
    for seed in range(60):
        base = replace(Pipelines(random.Random(seed)).problem(), pairs=())
        problem = alone(base, base.places[0])
        if problem is None or problem.limits.latency_us is not None:
            continue
        best_plan = solve(problem, workers=1)
        state = Exact(problem, monotonic() + 5.0, 0.0, seed, 1)
        for plan in filter(None, one_after_another(state, problem)):
            assert not check(problem, plan)
            assert key(problem, plan)[0] >= best_plan.objective[0] * (1 - 1e-7)
            found += 1
    assert found >= 20


def test_orders_of_decisions_differ() -> None:
    found = list(ways())
    assert len(set(found)) == len(found) == 12
    assert {tuple(step.family for step in steps) for steps in found} == set(
        permutations(ON_ONE_PLACE)
    )
    assert all(steps[-1].keeps_memory for steps in found)


def test_known_plans_of_other_objectives_are_taken() -> None:
    """Their certificate says nothing here, their choice does: it is there even without time."""
    taken = 0
    for seed in range(20):
        problem = Pipelines(random.Random(seed)).problem()
        plan = solve(replace(problem, objectives=(Objective.LATENCY, Objective.ERROR)), workers=1)
        if plan.totals is None or plan.is_uncertain:
            continue
        other = replace(problem, objectives=(Objective.ENERGY,))
        found = solve(other, workers=1, time_limit_s=0.0, known=(plan,))
        assert found.totals is not None
        assert found.objective[0] <= plan.totals.energy_j * (1 + 1e-9)
        taken += 1
    assert taken >= 8
