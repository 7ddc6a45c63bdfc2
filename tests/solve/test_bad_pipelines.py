"""Pipelines that are wrong, odd or cut short: each is refused in words or answered truthfully, by
the whole model and by the way for large problems alike."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from planner.errors import UsageError
from planner.ir.devices import Device, Hold, Link, Place
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, State, Transfer
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Progress
from planner.solve.solve import solve
from planner.solve.stages import solve as ways
from planner.solve.stages.exact import Exact
from tests.solve.problems import SETTING, flat


@pytest.fixture(params=["whole", "large"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which way every problem of a test is solved."""
    if request.param == "large":
        monkeypatch.setattr(ways, "SMALL_COLUMNS", 0)
        monkeypatch.setattr(ways, "EXACT_COLUMNS", 0)
    return str(request.param)


def line(ops: int, scale: float = 1.0) -> Problem:
    """A chain on up to two stages of one device each; the error lets half be compressed."""
    names = tuple(f"o{n}" for n in range(ops))
    options = tuple(
        Option(
            f"{name}:{kind}",
            (name,),
            kind,
            flat(us * scale),
            tuple(State(names[n - 1], "plain") for _ in range(n > 0)),
            (State(name, "plain"),),
            weight_size_bytes=size,
            error=error,
            holds=(Hold(n, n + 2, 1),),
        )
        for n, name in enumerate(names)
        for kind, us, size, error in (("fp16", 4.0, 8, 0.0), ("int8", 3.0, 4, 0.01))
    )
    return Problem(
        ops=names,
        edges=tuple(pairwise(names)),
        options=options,
        settings=(SETTING,),
        wanted=(State(names[-1], "plain"),),
        limits=Limits(error=0.01 * ops / 2),
        objectives=(Objective.LATENCY,),
        places=(Place("one", "a", 1),),
        devices=(Device("a", 8 * ops + 4, 2, 1.0),),
        links=(Link("a", "a", 1.0, 4.0),),
        stages=2,
        transfers=tuple(
            Transfer(f"t{name}", State(name, "plain"), State(name, "plain"), (4,)) for name in names
        ),
    )


def changed(problem: Problem, **fields: object) -> Problem:
    """With the first option changed."""
    first = replace(problem.options[0], **fields)  # type: ignore[arg-type]
    return replace(problem, options=(first, *problem.options[1:]))


def solved(problem: Problem) -> Solution:
    """An answer that the checker accepts."""
    found = solve(problem, time_limit_s=20.0, workers=1)
    assert not check(problem, found)
    return found


REFUSED = {
    "no option": (
        replace(line(3), options=tuple(o for o in line(3).options if o.ops != ("o1",))),
        "o1",
    ),
    "infinite cost": (changed(line(3), latency=flat(math.inf)), "o0:fp16"),
    "no number": (changed(line(3), latency=flat(math.nan)), "o0:fp16"),
    "negative weight": (changed(line(3), weight_size_bytes=-1), "o0:fp16"),
    "negative hold": (changed(line(3), holds=(Hold(0, 1, -5),)), "o0:fp16"),
    "negative memory": (replace(line(3), devices=(Device("a", -1, 2),)), "a"),
    "cycle": (replace(line(3), edges=(("o0", "o1"), ("o1", "o0"))), "o"),
    "unknown device": (replace(line(3), places=(Place("one", "nowhere"),)), "nowhere"),
    "no degree": (replace(line(3), places=(Place("one", "a", 0),)), "one"),
    "dead link": (replace(line(3), links=(Link("a", "a", 1.0, 0.0),)), "a"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_nonsense_is_refused_and_named(case: str) -> None:
    problem, name = REFUSED[case]
    with pytest.raises(UsageError) as refusal:
        solve(problem)
    assert name in str(refusal.value)


def test_one_operator(way: str) -> None:
    found = solved(line(1))
    # half an operator could be compressed: the dual's bound stays below
    assert found.status is (Status.OPTIMAL if way == "whole" else Status.FEASIBLE)
    assert found.objective[0] == pytest.approx(4.0 + SETTING.overhead[0].expected_us)


def test_disconnected_graphs(way: str) -> None:
    problem = replace(
        line(4),
        edges=(("o0", "o1"), ("o2", "o3")),
        options=tuple(
            replace(o, needs=()) if o.ops in (("o0",), ("o2",)) else o for o in line(4).options
        ),
    )
    found = solved(problem)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    best = solve(problem, workers=1)
    assert found.bound[0] <= best.objective[0] * (1 + 1e-9)


@pytest.mark.parametrize("limit", ["count", "devices", "price"])
def test_zero_devices_are_infeasible(way: str, limit: str) -> None:
    problem = line(3)
    changes = {
        "count": replace(problem, devices=(Device("a", 24, 0, 1.0),)),
        "devices": replace(problem, limits=replace(problem.limits, devices=0)),
        "price": replace(problem, limits=replace(problem.limits, price_per_hour=0.5)),
    }
    assert solved(changes[limit]).status is Status.INFEASIBLE


def test_twelve_orders_of_magnitude(way: str) -> None:
    """One operator costs 1e6 us, the others 1e-6: the sum of the small ones must not be lost."""
    problem = line(6, scale=1e-6)
    heavy = replace(problem.options[0], latency=flat(1e6))
    other = replace(problem.options[1], latency=flat(1e6))
    found = solved(replace(problem, options=(heavy, other, *problem.options[2:])))
    best = 1e6 + 1e-6 * (3 * 3.0 + 2 * 4.0) + SETTING.overhead[0].expected_us
    assert found.objective[0] == pytest.approx(best, rel=1e-11)
    assert found.bound[0] <= best
    assert found.bound[0] >= best * (1 - max(found.rounding, 1e-9))


def test_no_time_at_all(way: str) -> None:
    found = solve(line(12), time_limit_s=0.0, workers=1)
    assert found.hit_time_limit
    assert found.status in (Status.UNKNOWN, Status.FEASIBLE)
    assert not check(line(12), found)


def test_interruption_returns_the_incumbent(way: str) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.incumbent is not None:
            raise KeyboardInterrupt

    problem = line(12)
    found = solve(problem, time_limit_s=20.0, workers=1, reporter=interrupt)
    assert found.is_interrupted
    assert found.status is Status.FEASIBLE
    assert not check(problem, found)


def test_conflicting_limits_are_proved(way: str) -> None:
    problem = replace(line(12), limits=Limits(error=0.0, devices=1))
    heavy = replace(problem, devices=(Device("a", 60, 2, 1.0),))
    assert solved(heavy).status is Status.INFEASIBLE


def test_tight_intervals_are_uncertain(way: str) -> None:
    """C8 between the ends: a plan, and said to be uncertain."""
    wide = Latency(3.0, 4.0, 5.0)
    problem = line(4)
    options = tuple(replace(o, latency=((wide,),)) for o in problem.options)
    overhead = SETTING.overhead[0]
    limits = Limits(latency_us=4 * 4.5 + overhead.expected_us)
    found = solved(replace(problem, options=options, limits=limits))
    assert found.is_uncertain
    assert found.totals is not None


def test_a_plan_of_the_lower_end_only_is_uncertain_and_no_contradiction(way: str) -> None:
    """C8 below what anything is expected to take, above the lower ends."""
    wide = Latency(3.0, 4.0, 5.0)
    problem = line(4)
    options = tuple(replace(o, latency=((wide,),)) for o in problem.options)
    limits = Limits(latency_us=4 * 3.5 + SETTING.overhead[0].low_us)
    found = solved(replace(problem, options=options, limits=limits))
    assert found.is_uncertain
    assert found.totals is not None


def test_what_multipliers_refute_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between small and large: the search might only say that it does not know."""
    monkeypatch.setattr(ways, "SMALL_COLUMNS", 0)
    monkeypatch.setattr(ways, "search_exactly", lambda state: Status.UNKNOWN)
    problem = replace(line(12), limits=Limits(error=0.0, devices=1))
    heavy = replace(problem, devices=(Device("a", 60, 2, 1.0),))
    assert solved(heavy).status is Status.INFEASIBLE


def test_nothing_more_is_searched_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[Exact] = []

    def interrupted(state: Exact) -> Status:
        state.is_interrupted = True
        return Status.UNKNOWN

    def exactly(state: Exact) -> Status:
        searched.append(state)
        return Status.UNKNOWN

    monkeypatch.setattr(ways, "SMALL_COLUMNS", 0)
    monkeypatch.setattr(ways, "search_guarded", interrupted)
    monkeypatch.setattr(ways, "search_exactly", exactly)
    found = solved(line(4))
    assert found.is_interrupted
    assert found.status is Status.UNKNOWN
    assert not searched
