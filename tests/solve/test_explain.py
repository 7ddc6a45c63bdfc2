"""Runner-ups, binding limits, conflicts: against re-solves and known answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from planner.ir.problem import Limits, Objective
from planner.ir.solution import Status
from planner.solve.explain import binding, conflict, runner_ups
from planner.solve.limits import asked, with_limit
from planner.solve.solve import solve
from tests.solve.problems import chain


def test_runner_up_is_the_best_plan_with_another_format() -> None:
    problem = chain(3)
    found = runner_ups(problem, solve(problem))
    assert list(found) == ["o0", "o1", "o2"]
    # fp32 at an end saves one conversion and moves the other; in the middle it needs two more
    assert found["o0"].delta_us == pytest.approx(6.0, rel=1e-3)
    assert found["o1"].delta_us == pytest.approx(8.0, rel=1e-3)
    assert found["o1"].format == "fp32"
    assert found["o1"].delta_error == pytest.approx(-0.001)
    assert all(runner_up.is_exact for runner_up in found.values())


def test_local_runner_ups_are_labelled_and_never_better_than_exact() -> None:
    problem = chain(4, Limits(error=0.003))
    solution = solve(problem)
    exact = runner_ups(problem, solution)
    local = runner_ups(problem, solution, exact=0)
    for op, runner_up in local.items():
        assert not runner_up.is_exact
        assert "with everything else unchanged" in runner_up.reason
        best = exact[op].delta_us
        if "breaks" not in runner_up.reason and runner_up.delta_us is not None and best is not None:
            assert runner_up.delta_us >= best - 1e-2


def test_runner_up_that_breaks_a_limit_says_so() -> None:
    problem = chain(3, Limits(error=0.0))
    solution = solve(problem)
    exact = runner_ups(problem, solution)
    assert exact["o0"].option is None
    assert "keeps the limits" in exact["o0"].reason
    local = runner_ups(problem, solution, exact=0)
    assert "breaks the error budget" in local["o0"].reason


def test_no_runner_up_without_another_format() -> None:
    problem = chain(2)
    only = tuple(option for option in problem.options if option.name != "o0:int8")
    found = runner_ups(replace(problem, options=only), solve(replace(problem, options=only)))
    assert found["o0"].reason == "no other format was offered"


def test_binding_prices_by_resolve() -> None:
    problem = chain(4, Limits(error=0.00195, memory_size_bytes=10**9, latency_us=1e6))
    solution = solve(problem)
    (price,) = binding(problem, solution)
    assert (price.limit, price.objective) == ("error", Objective.LATENCY)
    assert price.step == "10 % more"
    # one int8 more beside the first: 10 -> 4
    assert price.saves == pytest.approx(6.0, rel=1e-3)
    assert price.saves_at_most > price.saves
    assert price.used == pytest.approx(0.001)


def test_conflict_is_minimal_and_its_nearest_values_are_feasible() -> None:
    problem = chain(
        4, Limits(latency_us=30.0, error=0.0015, memory_size_bytes=10**9, throughput_per_s=1.0)
    )
    assert solve(problem).status is Status.INFEASIBLE
    found = conflict(problem)
    assert set(found.limits) == {"latency_us", "error"}
    for name in asked(problem):
        for kept in itertools.chain([found.limits]):
            without = with_limit(problem, name, None)
            is_feasible = solve(without).status is Status.OPTIMAL
            assert is_feasible == (name in kept)
    for name, value in found.nearest.items():
        assert value is not None
        assert solve(with_limit(problem, name, value * (1 + 1e-6))).status is Status.OPTIMAL
    assert found.fastest_us == found.nearest["latency_us"]


def test_fastest_latency_is_exact_for_one_shape() -> None:
    found = conflict(chain(3, Limits(latency_us=10.0), spread=0.1))
    assert found.limits == ("latency_us",)
    assert found.fastest_us == pytest.approx(1 + 14 * 1.1)


def test_feasible_problems_have_no_conflict() -> None:
    assert conflict(chain(2, Limits(latency_us=1e6))).limits == ()


def test_infeasible_without_any_limit() -> None:
    problem = chain(1)
    every = tuple(frozenset({option.name}) for option in problem.options)
    found = conflict(replace(problem, forbidden=every))
    assert found.limits == ()
    assert found.fastest_us is None
    assert "no plan covers" in found.reason
