"""The frontier against enumeration."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from planner.errors import UsageError
from planner.ir.problem import Limits, Objective, Problem
from planner.solve.check import check, priced, value
from planner.solve.pareto import pareto
from tests.solve.pipelines import Pipelines, plans
from tests.solve.problems import chain
from tests.solve.test_brute_force import choices, key

PAIRS = [
    (Objective.LATENCY, Objective.MEMORY),
    (Objective.LATENCY, Objective.ERROR),
    (Objective.MEMORY, Objective.LATENCY),
    (Objective.ENERGY, Objective.ERROR),
]


def frontier(problem: Problem) -> list[tuple[float, float]]:
    """Efficient values by enumeration, problems without latency limits."""
    values = sorted({key(problem, p)[:2] for p in choices(problem) if not check(problem, p)})
    efficient: list[tuple[float, float]] = []
    for first, second in values:
        if not efficient or second < efficient[-1][1] * (1 - 1e-6):
            efficient.append((first, second))
    return efficient


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("seed", range(8))
def test_equals_enumeration(
    make_problem: Callable[[random.Random], Problem], pair: tuple[Objective, Objective], seed: int
) -> None:
    problem = make_problem(random.Random(1000 + seed))
    limits = replace(problem.limits, latency_us=None, throughput_per_s=None)
    problem = replace(problem, limits=limits, objectives=pair)
    found = pareto(problem, pair, points=100, workers=1)
    expected = frontier(problem)
    assert [pytest.approx(point) for point in expected] == [s.objective for s in found]


def test_few_points_are_efficient_and_spread() -> None:
    problem = chain(8)
    everything = pareto(problem, (Objective.LATENCY, Objective.ERROR), points=100)
    some = pareto(problem, (Objective.LATENCY, Objective.ERROR), points=4)
    values = {tuple(round(v, 9) for v in point.objective) for point in everything}
    assert len(everything) == 9
    assert len(some) == 4
    assert {tuple(round(v, 9) for v in point.objective) for point in some} <= values
    assert some[0].objective == everything[0].objective
    assert some[-1].objective == everything[-1].objective


def test_limits_are_kept() -> None:
    problem = chain(4, Limits(error=0.002))
    for point in pareto(problem, (Objective.LATENCY, Objective.ERROR)):
        assert point.objective[1] <= 0.002


def test_infeasible_problems_have_no_frontier() -> None:
    assert pareto(chain(2, Limits(latency_us=1.0))) == ()


def test_refuses_objectives_no_limit_can_bound() -> None:
    with pytest.raises(UsageError, match="no frontier of latency against devices"):
        pareto(chain(2), (Objective.LATENCY, Objective.DEVICES))


def efficient(values: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Those that no other one dominates, sorted."""
    distinct = sorted(set(values))
    return [
        one
        for one in distinct
        if not any(
            other != one and all(a <= b + 1e-9 for a, b in zip(other, one, strict=True))
            for other in distinct
        )
    ]


@pytest.mark.parametrize("seed", range(6))
def test_three_objectives_equal_enumeration(
    make_problem: Callable[[random.Random], Problem], seed: int
) -> None:
    axes = (Objective.LATENCY, Objective.MEMORY, Objective.ERROR)
    problem = make_problem(random.Random(2000 + seed))
    limits = replace(problem.limits, latency_us=None, throughput_per_s=None)
    problem = replace(problem, limits=limits, objectives=axes)
    expected = efficient(key(problem, p) for p in choices(problem) if not check(problem, p))
    found = [point.objective for point in pareto(problem, axes, points=300, workers=1)]
    assert [pytest.approx(point, abs=1e-9) for point in expected] == found


@pytest.mark.parametrize("seed", range(12))
def test_pipelines_against_enumeration(seed: int) -> None:
    """Devices against latency and error, over all plans of all stages."""
    axes = (Objective.LATENCY, Objective.DEVICES, Objective.ERROR)
    base = Pipelines(random.Random(seed)).problem()
    problem = replace(base, limits=replace(base.limits, latency_us=None), objectives=axes)
    feasible = (plan for plan in plans(problem) if not check(problem, plan))
    totals = (priced(problem, plan) for plan in feasible)
    expected = efficient(tuple(value(each, axis) for axis in axes) for each in totals)
    found = [point.objective for point in pareto(problem, axes, points=300, workers=1)]
    assert [pytest.approx(point, abs=1e-9) for point in expected] == found


def test_what_nothing_can_bound_comes_first() -> None:
    problem = Pipelines(random.Random(0)).problem()
    with pytest.raises(UsageError, match="name latency first"):
        pareto(problem, (Objective.COST, Objective.LATENCY))
    with pytest.raises(UsageError, match="two or three"):
        pareto(problem, (Objective.COST,))
