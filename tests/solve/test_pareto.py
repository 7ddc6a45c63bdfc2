"""The frontier against enumeration."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.errors import UsageError
from planner.ir.problem import Limits, Objective, Problem
from planner.solve.check import check
from planner.solve.pareto import pareto
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
    with pytest.raises(UsageError, match="no frontier of latency against cost"):
        pareto(chain(2), (Objective.LATENCY, Objective.COST))
