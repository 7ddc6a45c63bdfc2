"""A plan of a narrower problem is one of a wider problem, with the wider one's proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.place.variant import HOST
from planner.solve.check import check
from planner.solve.solve import solve
from planner.steps.away.inherited import inherited
from tests.steps.one_device import on_one_device


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A transformer of two layers on one device."""
    return on_one_device(tmp_path_factory.mktemp("narrow"), 512)


@pytest.fixture(scope="module")
def plans(problem: Problem) -> tuple[Solution, Solution]:
    """Of nothing but weights that stay, and of weights that stream wherever they can."""
    can = {o.ops for o in problem.options if o.name.endswith(f"@{HOST}")}
    stays = tuple(o for o in problem.options if not o.name.endswith(f"@{HOST}"))
    streams = tuple(o for o in problem.options if o.name.endswith(f"@{HOST}") or o.ops not in can)
    found = [solve(replace(problem, options=some), time_limit_s=20) for some in (stays, streams)]
    return found[0], found[1]


def test_the_better_plan_is_taken_whoever_found_it(
    problem: Problem, plans: tuple[Solution, Solution]
) -> None:
    stays, streams = plans
    assert stays.objective < streams.objective
    taken = inherited(problem, streams, [stays])
    assert (taken.chosen, taken.objective) == (stays.chosen, stays.objective)
    assert taken.bound <= streams.bound
    assert taken.gap is not None
    assert not check(problem, taken)
    assert inherited(problem, stays, [streams]) is stays


def test_a_plan_is_handed_on_where_a_search_found_none(
    problem: Problem, plans: tuple[Solution, Solution]
) -> None:
    nothing = Solution(Status.UNKNOWN, hit_time_limit=True)
    taken = inherited(problem, nothing, plans)
    assert taken.status is Status.FEASIBLE
    assert taken.chosen == plans[0].chosen
    assert taken.hit_time_limit


def test_a_plan_that_the_problem_does_not_allow_is_not_taken(
    problem: Problem, plans: tuple[Solution, Solution]
) -> None:
    stays, streams = plans
    kept = tuple(o for o in problem.options if o.name in streams.chosen)
    assert inherited(replace(problem, options=kept), streams, [stays]) is streams
    small = tuple(replace(d, memory_size_bytes=1) for d in problem.devices)
    assert inherited(replace(problem, devices=small), streams, [stays]) is streams
