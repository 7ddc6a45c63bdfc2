"""Weights of a plan stream anew: its options stay, it keeps everything, and it becomes no worse."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from time import monotonic

from planner.ir.devices import Device, Place, Store
from planner.ir.problem import Latency, Objective, Option, Problem, Setting
from planner.ir.solution import Solution, Stage, Status
from planner.solve.check import check, priced
from planner.solve.scale.restream import make_room, restream
from planner.solve.stages.exact import Exact
from tests.solve.pipelines import Pipelines, plans

PROBLEMS = 150
MOST_PLANS = 4_000


def cases() -> Iterator[tuple[Problem, list[tuple[float, Solution]]]]:
    """Plans that differ in their streams alone, with their latencies, where some stream."""
    for seed in range(PROBLEMS):
        problem = replace(Pipelines(random.Random(seed)).problem(), objectives=(Objective.LATENCY,))
        groups: dict[object, list[tuple[float, Solution]]] = defaultdict(list)
        for number, plan in enumerate(plans(problem)):
            if number == MOST_PLANS:
                break
            state = exact(problem)
            if any(stage.stored for stage in plan.stages) and not check(problem, plan):
                state.offer(plan, "given", 0.0, 0)
                groups[kept(plan), plan.setting].append((state.values[0], plan))
        found = max(groups.values(), key=len, default=[])
        if len(found) > 1:
            yield problem, sorted(found, key=lambda pair: pair[0])


def exact(problem: Problem) -> Exact:
    return Exact(problem, monotonic() + 60, 0.0, 0, 1)


def kept(plan: Solution) -> object:
    return tuple(replace(stage, stored=()) for stage in plan.stages)


def test_streams_anew_keep_the_plan_and_are_mostly_the_best_for_it() -> None:
    tried = reached = 0
    for problem, found in cases():
        (best, _), (worst, plan) = found[0], found[-1]
        state = exact(problem)
        assert state.offer(plan, "given", 0.0, 0)
        row = [setting.name for setting in problem.settings].index(plan.setting or "")
        restream(state, row, 0, 0.0, monotonic() + 60)
        assert state.best is not None
        assert kept(state.best) == kept(plan)
        assert state.best.setting == plan.setting
        assert check(problem, state.best) == ()
        assert state.values[0] <= worst * (1 + 1e-9)
        if worst > best * (1 + 1e-6):
            tried += 1
            reached += state.values[0] <= best * (1 + 1e-9)
    assert tried >= 10
    assert reached >= 0.9 * tried


def test_making_room_costs_nothing() -> None:
    """The plan costs no more, keeps everything and needs no more memory."""
    for problem, found in cases():
        for _, plan in (found[0], found[-1]):
            state = exact(problem)
            assert state.offer(plan, "given", 0.0, 0)
            before = state.values[0]
            row = [setting.name for setting in problem.settings].index(plan.setting or "")
            make_room(state, row, monotonic() + 60)
            assert state.best is not None
            assert kept(state.best) == kept(plan)
            assert check(problem, state.best) == ()
            assert state.values[0] <= before * (1 + 1e-9)
            held, was = priced(problem, state.best), priced(problem, plan)
            pairs = zip(held.stage_memory_size_bytes, was.stage_memory_size_bytes, strict=True)
            assert all(now <= then for now, then in pairs)


def test_room_is_made_where_neighbours_stream() -> None:
    """The slot of two neighbours has room for all weights in turn but the first, which nothing
    runs before."""
    names = tuple(f"o{n}" for n in range(9))
    us = Latency(10.0, 10.0, 10.0)
    problem = Problem(
        ops=names,
        edges=tuple(pairwise(names)),
        options=tuple(
            Option(name, (name,), "fp16", ((us,),), weight_size_bytes=100) for name in names
        ),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.LATENCY,),
        places=(Place("gpu", "gpu"),),
        devices=(Device("gpu", memory_size_bytes=900),),
        stores=(Store("host", 0.0, 50.0, ahead=1),),
    )
    state = exact(problem)
    plan = Solution(
        Status.FEASIBLE,
        names,
        setting="s",
        stages=(Stage("gpu", names, stored=(("o2", "host"), ("o3", "host"))),),
    )
    assert state.offer(plan, "given", 0.0, 0)
    assert priced(problem, plan).memory_size_bytes == 900
    make_room(state, 0, monotonic() + 60)
    assert state.best is not None
    assert state.values == (90.0,)
    assert priced(problem, state.best).memory_size_bytes == 300
