"""Single places after the dual's way: when the search ends, and what is said of it then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import pytest

from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.solve import solve
from planner.solve.stages import rescue
from planner.solve.stages.exact import Exact
from planner.solve.stages.families import Part
from planner.solve.stages.neighbourhoods import WORK, improve, search_below
from planner.solve.stages.starts import first_plan
from tests.solve.test_bad_pipelines import line


def two_places() -> Problem:
    """Places that are alike."""
    return replace(line(4), places=(Place("one", "a", 1), Place("two", "a", 1)))


def begun(problem: Problem) -> Exact:
    """A search that has found nothing yet."""
    return Exact(problem, monotonic() + 20.0, 0.0, 0, 1)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_closed_gap_ends_the_search_and_is_optimal(
    is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the clock ended the dual's way is not forgotten."""
    problem = two_places()
    bound = solve(problem, workers=1).objective[0]
    searched: list[str] = []

    def dual(state: Exact) -> Status:
        state.bounds, state.hit_time_limit = [bound], is_late
        return Status.UNKNOWN

    def first(state: Exact, part: Problem, until: float) -> Solution | None:
        searched.append(part.places[0].name)
        return first_plan(state, part, until)

    monkeypatch.setattr(rescue, "search_large", dual)
    monkeypatch.setattr(rescue, "first_plan", first)
    state = begun(problem)
    assert rescue.search_guarded(state) is Status.OPTIMAL
    assert state.values[0] == pytest.approx(bound)
    assert searched == ["one"]
    assert (state.is_clocked or state.hit_time_limit) == is_late


def test_no_place_is_searched_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def first(state: Exact, part: Problem, until: float) -> None:
        searched.append(part.places[0].name)
        state.is_interrupted = True

    monkeypatch.setattr(rescue, "search_large", lambda state: Status.UNKNOWN)
    monkeypatch.setattr(rescue, "first_plan", first)
    assert rescue.search_guarded(begun(two_places())) is Status.UNKNOWN
    assert searched == ["one"]


def test_what_the_clock_cuts_short_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = line(4)
    plan = solve(problem, workers=1).choice
    starting, improving, searching, ordering = (begun(problem) for _ in range(4))
    assert first_plan(starting, problem, monotonic()) is None
    improve(improving, plan, monotonic(), 0)
    assert not search_below(searching, Part(problem), monotonic(), 0, WORK)

    def orders(state: Exact, part: Problem) -> Iterator[None]:
        yield None

    monkeypatch.setattr(rescue, "search_large", lambda state: Status.UNKNOWN)
    monkeypatch.setattr(rescue, "first_plan", lambda state, part, until: None)
    monkeypatch.setattr(rescue, "one_after_another", orders)
    monkeypatch.setattr(rescue, "ORDERS_SHARE", 0.0)
    rescue.search_guarded(ordering)
    assert all(state.is_clocked for state in (starting, improving, searching, ordering))
