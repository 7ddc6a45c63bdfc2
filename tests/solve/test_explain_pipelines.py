"""Reasons for pipelines: runner-ups, prices of limits, conflicts; against re-pricing and search."""

from __future__ import annotations

import random
from dataclasses import replace
from time import monotonic

import pytest

from planner.ir.assignment import Contiguity
from planner.ir.devices import Device
from planner.ir.problem import Latency, Limits, Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import priced
from planner.solve.explain import binding, conflict, runner_ups
from planner.solve.limits import with_limit
from planner.solve.nearest import NOTHING, Ways, farthest
from planner.solve.neighbours_stages import StageNeighbours
from planner.solve.price import positions
from planner.solve.render import render
from planner.solve.scale.complete import Choice, Completer
from planner.solve.solve import solve
from planner.solve.stages import solve as ways
from planner.solve.stages.rules import STAGE_RULES
from tests.solve.pipelines import Pipelines
from tests.solve.problems import SETTING
from tests.solve.test_assign import Maker
from tests.solve.test_bad_pipelines import line


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pipeline is solved as a large one."""
    monkeypatch.setattr(ways, "SMALL_COLUMNS", 0)
    monkeypatch.setattr(ways, "EXACT_COLUMNS", 0)


def swapped(problem: Problem, plan: Solution, old: str, new: str) -> Solution | None:
    """The plan with one option replaced and everything else completed anew."""
    numbers = {option.name: g for g, option in enumerate(problem.options)}
    places = {place.name: place for place in problem.places}
    order = positions(problem, problem.options)
    parts = sorted(
        (order[numbers[name]], numbers[new if name == old else name], p)
        for p, stage in enumerate(plan.stages)
        for name in stage.chosen
    )
    choice = Choice(
        tuple(places[stage.place] for stage in plan.stages),
        [g for _, g, _ in parts],
        [p for _, _, p in parts],
        [-1] * len(parts),
    )
    row = [setting.name for setting in problem.settings].index(plan.setting or "")
    return Completer(problem, row).complete(choice)


def test_a_swap_is_priced_as_the_whole_plan_would_be() -> None:
    compared = 0
    for seed in range(400):
        base = Pipelines(random.Random(seed)).problem()
        problem = replace(base, pairs=(), tied=(), stores=(), forbidden=(), limits=Limits())
        plan = solve(problem, workers=1)
        if plan.totals is None:
            continue
        neighbours = StageNeighbours(problem, plan)
        options = {option.name: option for option in problem.options}
        for chosen in (options[name] for name in plan.chosen):
            for rival in neighbours.rivals(chosen.ops[0], chosen):
                other = swapped(problem, plan, chosen.name, rival.name)
                same = swapped(problem, plan, chosen.name, chosen.name)
                swap = neighbours.swap(chosen, chosen.ops[0], rival)
                if rival.ops != chosen.ops or other is None or same is None or swap is None:
                    continue
                after, before = priced(problem, other), priced(problem, same)
                difference = after.weighted_latency_us - before.weighted_latency_us
                assert swap.delta_us == pytest.approx(difference, abs=1e-9)
                assert swap.delta_error == pytest.approx(after.error - before.error, abs=1e-12)
                compared += 1
    assert compared >= 50


def test_runner_ups_of_every_operator() -> None:
    problem = line(8)
    plan = solve(problem, workers=1)
    found = runner_ups(problem, plan, exact=3)
    assert set(found) == set(problem.ops)
    assert sum(rival.is_exact for rival in found.values()) == 3
    assert all(rival.reason for rival in found.values())


def test_the_price_of_each_limit(large: None) -> None:
    problem = line(8)
    plan = solve(problem, workers=1)
    found = {each.limit: each for each in binding(problem, plan)}
    # two more operators may be compressed with unlimited error: four us at most
    assert found["error"].saves_at_most == pytest.approx(4.0)
    assert found["error"].objective is Objective.LATENCY


@pytest.mark.parametrize("is_large", [False, True])
def test_conflicts_are_minimal_and_have_a_way_out(
    is_large: bool, request: pytest.FixtureRequest
) -> None:
    if is_large:
        request.getfixturevalue("large")
    problem = replace(
        line(10), devices=(Device("a", None, 2, 1.0),), limits=Limits(
            error=0.02, memory_size_bytes=50, devices=1, latency_us=1e9, energy_j=1e9
        ),
    )  # fmt: skip
    found = conflict(problem, time_limit_s=5.0)
    # one device holds 50 bytes: 8 compressed operators at 0.01 each, or a second device
    assert set(found.limits) == {"error", "memory_size_bytes", "devices"}
    for name in found.limits:
        way = found.nearest[name]
        assert way is not None
        eased = with_limit(problem, name, way * (1 + 1e-9) + (name == "memory_size_bytes"))
        assert solve(eased, workers=1).totals is not None
    assert found.nearest["devices"] == 2
    assert found.is_minimal
    for name, bound in found.bounds.items():
        way = found.nearest[name]
        assert way is not None
        assert bound <= way * (1 + 1e-9)
        # nothing short of the bound is feasible: half way to what was asked for is not either
        asked_for = float(getattr(problem.limits, name))
        short = with_limit(problem, name, asked_for + (bound - asked_for) / 2)
        assert solve(short, workers=1).status is Status.INFEASIBLE


def test_pipelines_and_assignments_are_rendered() -> None:
    text = render(Pipelines(random.Random(5)).problem())
    names = {name for name, _ in STAGE_RULES}
    for identity in ("C1", "C2", "C8"):
        assert identity in names
        assert f"  {identity}/" in text or identity == "C8"
    problem = Maker(3, scheduled=True, contiguity=Contiguity.CONVEX).problem()
    text = render(problem)
    assert "C12/load/" in text
    assert "C1/cover/o0" in text


def test_what_time_did_not_suffice_for_is_not_claimed(large: None) -> None:
    problem = replace(line(10), limits=Limits(error=0.0, memory_size_bytes=10, devices=1))
    found = conflict(problem, total_s=0.0)
    assert found.limits == ()
    assert found.reason.startswith("no conflict of the limits was proved")
    assert conflict(problem).limits


def test_a_set_is_minimal_only_where_plans_prove_it(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = replace(line(10), limits=Limits(error=0.02, memory_size_bytes=50, devices=1))
    assert conflict(problem).is_minimal
    monkeypatch.setattr(Ways, "nearest", lambda *_: NOTHING)
    monkeypatch.setattr(Ways, "any_plan", lambda *_: None)
    found = conflict(problem)
    assert found.limits
    assert not found.is_minimal
    assert "perhaps fewer" in found.reason
    assert found.nearest == dict.fromkeys(found.limits)
    assert not found.bounds


def test_a_bound_says_more_than_what_was_asked_for() -> None:
    """Prices rise from what was asked for, rates fall; what lies on the other side says nothing."""
    problem = replace(line(4), limits=Limits(price_per_hour=4.0, throughput_per_s=100.0))
    assert farthest(problem, "price_per_hour", 32.0, [0.0, 6.0, 5.0]) == 6.0
    assert farthest(problem, "price_per_hour", 32.0, [0.0, 4.0]) is None
    assert farthest(problem, "throughput_per_s", 20.0, [80.0, 50.0, 120.0]) == 50.0


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("spread_us", [0.0, 2.0])
def test_what_holds_for_certain_plans_only_is_not_called_proved(
    spread_us: float, is_large: bool, request: pytest.FixtureRequest
) -> None:
    """The small option keeps the promise at the lower ends only, if at all: then 51 bytes will
    do, though certain plans need 101."""
    if is_large:
        request.getfixturevalue("large")
    base, overhead_us = line(1), SETTING.overhead[0].high_us
    cells = [((Latency(us - spread_us, us, us + spread_us),),) for us in (3.0, 6.0)]
    options = tuple(
        replace(option, latency=cell, weight_size_bytes=size)
        for option, cell, size in zip(base.options, cells, (100, 50), strict=True)
    )
    problem = replace(
        base,
        options=options,
        devices=(Device("a", None, 2, 1.0),),
        limits=Limits(latency_us=5.5 + overhead_us, memory_size_bytes=10),
    )
    found = Ways(monotonic() + 4.0, 2.0, 0, 1, is_large).nearest(problem, "memory_size_bytes", 1)
    assert found.value == 101
    small = solve(with_limit(problem, "memory_size_bytes", 51), time_limit_s=5.0)
    assert small.is_uncertain == bool(spread_us)
    needed = 51 if spread_us else 101
    assert found.bound is None or found.bound <= needed * (1 + 1e-9)
    if not spread_us and not is_large:
        assert found.bound == pytest.approx(101)


@pytest.mark.parametrize("spread_us", [0.0, 2.0])
def test_the_least_latency_is_proved_only_where_none_is_an_interval(spread_us: float) -> None:
    wide = ((Latency(4.0 - spread_us, 4.0, 4.0 + spread_us),),)
    options = tuple(replace(option, latency=wide) for option in line(1).options)
    problem = replace(line(1), options=options, limits=Limits(latency_us=1.0))
    found = Ways(monotonic() + 4.0, 2.0, 0, 1, is_large=False).nearest(problem, "latency_us", 1)
    overhead_us = SETTING.overhead[0].high_us
    assert found.value == pytest.approx(4.0 + spread_us + overhead_us)
    # what is expected can be asked for whatever the upper end is
    assert solve(with_limit(problem, "latency_us", 4.0 + overhead_us), workers=1).totals is not None
    assert (found.bound is None) == bool(spread_us)
