"""The plan that is offered before anything is bounded: checked, never below the optimum."""

from __future__ import annotations

from time import monotonic

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Status
from planner.solve.check import judge
from planner.solve.scale import early
from planner.solve.scale.early import offer_early
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import HIGH
from tests.solve.test_large import LARGE_EXAMPLES, one_setting, problems
from tests.solve.test_stages import best as best_plan


def state_of(problem: Problem) -> Exact:
    """A search that has found nothing yet."""
    return Exact(problem, monotonic() + 20.0, 0.0, 0, 1)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MANY_OPTIONS", 0)


def test_early_plans_keep_everything_and_are_no_better_than_the_best() -> None:
    found = possible = 0
    for problem in problems(2 * LARGE_EXAMPLES):
        state = state_of(problem)
        offer_early(state, 0, 0)
        best = best_plan(problem)
        possible += best is not None
        if state.best is None:
            continue
        assert not judge(problem, state.best).broken
        assert best is not None
        assert state.values[0] >= best[0][0] * (1 - 1e-9) - 1e-9
        found += 1
    assert found >= possible // 2


def test_what_follows_an_early_plan_bounds_the_same_problem() -> None:
    compared = 0
    for problem in map(one_setting, problems(LARGE_EXAMPLES // 2)):
        best, state = best_plan(problem), state_of(problem)
        status = search_large(state)
        if best is None or state.end != HIGH or state.best is None:
            continue
        assert status is not Status.INFEASIBLE
        assert state.bounds[0] <= best[0][0] * (1 + 1e-7) + 1e-7
        assert state.values[0] >= best[0][0] * (1 - 1e-9) - 1e-9
        compared += 1
    assert compared >= LARGE_EXAMPLES // 10


def test_few_options_need_no_early_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MANY_OPTIONS", 10_000)
    state = state_of(problems(1)[0])
    offer_early(state, 0, 0)
    assert state.best is None
