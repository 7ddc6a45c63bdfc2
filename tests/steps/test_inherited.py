"""A plan of a narrower problem is one of a wider problem, with the wider one's proof."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.place.variant import HOST
from planner.progress import Silent
from planner.solve.check import check
from planner.solve.solve import solve
from planner.steps.away.inherited import inherited
from planner.steps.away.search import Found, Search
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
    assert inherited(replace(problem, stores=()), stays, [streams]) is stays
    small = tuple(replace(d, memory_size_bytes=1) for d in problem.devices)
    assert inherited(replace(problem, devices=small), streams, [stays]) is streams


@pytest.mark.parametrize("has_answer", [True, False])
def test_the_answer_is_no_worse_than_what_was_asked_beside_it(
    has_answer: bool,
    problem: Problem,
    plans: tuple[Solution, Solution],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All formats found a worse plan than 16 bits alone, solved later, or none in time."""
    stays, streams = plans
    solution = streams if has_answer else Solution(Status.UNKNOWN, hit_time_limit=True)
    everything = Found("all devices", 2, problem, solution)
    plain = Found("all fp16", 2, problem, stays)
    free = Found("however slow", 2, problem, stays, has_slo=False)
    constraints = SimpleNamespace(objective="latency", solver=SimpleNamespace(time_limit_s=1.0))
    search = Search(cast(Any, constraints), cast(Any, None), cast(Any, None), Silent())
    search.tried += [everything, free, plain]
    others = [free, plain] if has_answer else [everything, free, plain]
    monkeypatch.setattr(search, "_at_most", lambda: everything if has_answer else None)
    monkeypatch.setattr(search, "_alternatives", lambda _: others)
    best, rows = search.run()
    assert best is not None
    assert best.name == "all devices"
    assert (best.solution.chosen, best.solution.objective) == (stays.chosen, stays.objective)
    assert [row.name for row in rows] == ["however slow", "all fp16"]


def test_a_plan_that_breaks_the_promise_is_nobodys_answer(
    problem: Problem, plans: tuple[Solution, Solution]
) -> None:
    slow = Found("however slow", 1, problem, plans[0], has_slo=False)
    asked = Found("all devices", 1, problem, plans[1])
    search = Search(cast(Any, None), cast(Any, None), cast(Any, None), Silent(), [asked, slow])
    assert search._improved(asked) is asked


def test_a_proof_is_not_given_up_for_a_rounding(
    problem: Problem, plans: tuple[Solution, Solution]
) -> None:
    stays, _ = plans
    rounded = replace(stays, objective=tuple(each * (1 + 1e-12) for each in stays.objective))
    assert inherited(problem, rounded, [stays]) is rounded
