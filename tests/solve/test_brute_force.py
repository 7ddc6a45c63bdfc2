"""The solver against enumeration, on random small problems with every family of constraints."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check, price, value
from planner.solve.solve import solve

Key = tuple[float, ...]


def covers(problem: Problem, left: frozenset[str]) -> Iterator[tuple[Option, ...]]:
    """Every exact cover of the operators that are left."""
    if not left:
        yield ()
        return
    first = next(name for name in problem.ops if name in left)
    for option in problem.options:
        if first in option.ops and left.issuperset(option.ops):
            for rest in covers(problem, left - set(option.ops)):
                yield (option, *rest)


def choices(problem: Problem) -> Iterator[Solution]:
    """Every cover, set of conversions and setting."""
    names = [conversion.name for conversion in problem.conversions]
    subsets = [c for n in range(len(names) + 1) for c in itertools.combinations(names, n)]
    for cover in covers(problem, frozenset(problem.ops)):
        chosen = tuple(option.name for option in cover)
        for setting in problem.settings:
            for conversions in subsets:
                yield Solution(Status.FEASIBLE, chosen, conversions, setting.name)


def tail_us(problem: Problem, solution: Solution, end: str) -> float:
    """The slowest shape at the promise's percentile."""
    totals = price(problem, solution.chosen, solution.conversions, solution.setting or "")
    setting = next(s for s in problem.settings if s.name == solution.setting)
    ends: tuple[float, ...] = getattr(totals, f"latency_{end}_us")
    return max(setting.tail(shape, is_low=end == "low") * value for shape, value in enumerate(ends))


def best(problem: Problem) -> tuple[Key, str] | None:
    """The least objectives, and the end of the interval at which a plan exists, if one does."""
    unbounded = replace(problem, limits=replace(problem.limits, latency_us=None))
    feasible = [plan for plan in choices(problem) if not check(unbounded, plan)]
    for end in ("high", "expected", "low"):
        slo = problem.limits.latency_us
        kept = [p for p in feasible if slo is None or tail_us(problem, p, end) <= slo * (1 + 1e-12)]
        if kept:
            return min(key(problem, plan) for plan in kept), end
    return None


def key(problem: Problem, plan: Solution) -> Key:
    """Its objectives."""
    totals = price(problem, plan.chosen, plan.conversions, plan.setting or "")
    return tuple(value(totals, objective) for objective in problem.objectives)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_equals_enumeration(make_problem: Callable[[random.Random], Problem], seed: int) -> None:
    problem = make_problem(random.Random(seed))
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
        assert abs(ours - theirs) <= 1e-7 * max(1.0, abs(theirs))
    assert solution.gap is not None
    assert solution.gap <= 1e-6
