"""The way for large pipelines: its bounds hold and its plans are checked, against the exact way."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import pairwise
from time import monotonic

import numpy as np
import pytest

from planner.ir.devices import Device, Place, Store
from planner.ir.problem import Limits, Objective, Option, Problem
from planner.ir.solution import Status
from planner.solve.check import check, priced, value
from planner.solve.scale.bounds import Bounds
from planner.solve.scale.prepared import prepared
from planner.solve.scale.refute import is_refuted
from planner.solve.scale.residency import Running, hidden_bytes, stream
from planner.solve.scale.solve import search_large
from planner.solve.solve import solve
from planner.solve.stages.exact import Exact
from tests.solve.pipelines import Pipelines, plans
from tests.solve.problems import SETTING, flat
from tests.solve.test_stages import best as best_plan

LARGE_EXAMPLES = int(os.environ.get("INFOPT_EXAMPLES", "60"))
"""Random problems that are compared with enumeration: more where the environment asks."""
BOUNDED = (Objective.LATENCY, Objective.ERROR, Objective.ENERGY, Objective.COST, Objective.DEVICES)


def problems(count: int) -> list[Problem]:
    """Random problems with one objective that the dual bounds."""
    found = []
    for seed in range(count):
        rng = random.Random(seed)
        problem = Pipelines(rng).problem()
        found.append(replace(problem, objectives=(rng.choice(BOUNDED),), pairs=(), tied=()))
    return found


def bounds_of(problem: Problem) -> Bounds:
    """The first setting's."""
    found = prepared(problem, 0, "high_us")
    return Bounds(found.labelled, found.graph, problem.objectives[0], 1.0)


def one_setting(problem: Problem) -> Problem:
    """The problem under its first setting."""
    return replace(
        problem,
        settings=problem.settings[:1],
        options=tuple(replace(o, latency=o.latency[:1]) for o in problem.options),
        conversions=tuple(replace(c, latency=c.latency[:1]) for c in problem.conversions),
    )


def test_any_multipliers_bound_the_optimum() -> None:
    compared = 0
    for number, problem in enumerate(problems(120)):
        cut = one_setting(problem)
        best = solve(cut, workers=1)
        if best.status is not Status.OPTIMAL or best.is_uncertain:
            continue
        found = bounds_of(cut)
        if any(not len(kind.rank) for kind in found.labelled.kinds):
            continue
        dual = found.whole
        for point in np.random.default_rng(number).exponential(2.0, (4, len(dual.rows.rows))):
            dual.evaluate(point)
        start = found.start(monotonic() + 5.0, 30)
        assert found.bound <= best.objective[0] * (1 + 1e-7) + 1e-7
        found.raise_to(np.inf, monotonic() + 5.0, 30, start)
        assert found.bound <= best.objective[0] * (1 + 1e-7) + 1e-7
        compared += 1
    assert compared >= 30


def test_each_way_to_man_the_stages_is_bounded() -> None:
    compared = 0
    for problem in problems(90):
        cut = one_setting(problem)
        unbounded = replace(cut, limits=replace(cut.limits, latency_us=None))
        found = bounds_of(unbounded)
        vectors = found.fleet.vectors
        if vectors is None or any(not len(kind.rank) for kind in found.labelled.kinds):
            continue
        found.raise_to(np.inf, monotonic() + 5.0, 20, found.start(monotonic() + 5.0, 10))
        known = dict(zip(map(tuple, vectors.tolist()), found.known.tolist(), strict=True))
        names = [place.name for place in unbounded.places]
        for plan in plans(unbounded):
            if check(unbounded, plan):
                continue
            used = tuple(sum(stage.place == name for stage in plan.stages) for name in names)
            reached = value(priced(unbounded, plan), unbounded.objectives[0])
            assert known[used] <= reached * (1 + 1e-7) + 1e-7
            compared += 1
    assert compared >= 200


def test_status_and_bound_against_enumeration() -> None:
    """All decision families, several objectives, pairs and ties; whatever status comes is true."""
    proved = refuted = 0
    for seed in range(LARGE_EXAMPLES):
        problem = Pipelines(random.Random(seed)).problem()
        state = Exact(problem, monotonic() + 5.0, 0.0, 0, 1, None)
        status = search_large(state)
        truth = best_plan(problem)
        if status is Status.INFEASIBLE:
            assert truth is None
            refuted += 1
        if state.best is None:
            continue
        assert truth is not None
        assert not check(problem, state.best)
        values, end = truth
        if state.best.is_uncertain == (end != "high"):
            assert state.values[0] >= values[0] * (1 - 1e-7) - 1e-12
            assert state.bounds[0] <= values[0] * (1 + 1e-7) + 1e-12
        if status is Status.OPTIMAL:
            assert state.values == pytest.approx(values, rel=1e-7, abs=1e-12)
            proved += 1
    assert proved >= LARGE_EXAMPLES // 10
    assert refuted >= LARGE_EXAMPLES // 10


def test_refutations_are_true() -> None:
    """A chain whose fastest options take 100 us at least and whose least weights are 50 bytes."""
    ops = tuple(f"o{n}" for n in range(10))
    options = tuple(
        Option(f"{op}:{kind}", (op,), kind, flat(us), weight_size_bytes=size, place="one")
        for op in ops
        for kind, us, size in (("fast", 10.0, 10), ("small", 20.0, 5))
    )
    problem = Problem(
        ops=ops,
        edges=tuple(pairwise(ops)),
        options=options,
        settings=(SETTING,),
        objectives=(Objective.LATENCY,),
        places=(Place("one", "a", 1),),
        devices=(Device("a", 1000, 1),),
    )

    def refuted(latency_us: float, memory: int) -> bool:
        limits = Limits(latency_us=latency_us, memory_size_bytes=memory)
        found = bounds_of(replace(problem, limits=limits))
        return is_refuted(found.labelled, found.graph, found.rows, found.fleet, np.inf)

    overhead = SETTING.overhead[0].high_us
    assert refuted(overhead + 99.0, 1000)
    assert not refuted(overhead + 100.0, 100)
    assert refuted(overhead + 1000.0, 49)
    # 80 bytes need four small ones: 140 us
    assert refuted(overhead + 139.0, 80)
    assert not refuted(overhead + 140.0, 80)


def test_time_that_is_over_ends_the_search_at_once() -> None:
    problem = problems(1)[0]
    state = Exact(problem, monotonic() - 1.0, 0.0, 0, 1, None)
    assert search_large(state) is Status.UNKNOWN
    assert state.hit_time_limit


def test_plans_are_checked_and_bounds_hold() -> None:
    solved = 0
    for problem in problems(30):
        best = solve(problem, workers=1)
        state = Exact(problem, monotonic() + 5.0, 0.0, 0, 1, None)
        status = search_large(state)
        if state.best is None:
            continue
        solved += 1
        assert best.status is Status.OPTIMAL
        assert not check(problem, state.best)
        assert state.values[0] >= best.objective[0] * (1 - 1e-7)
        if status is Status.OPTIMAL:
            assert state.values[0] == pytest.approx(best.objective[0], rel=1e-7, abs=1e-12)
    assert solved >= 6


def test_streams_hide_behind_what_runs() -> None:
    options = [
        Option(f"o{n}", (f"o{n}",), "fp32", flat(10.0), weight_size_bytes=100) for n in range(6)
    ]
    times = [[10.0] * 6]

    def line(bytes_per_us: float) -> Running:
        store = Store("host", 0.0, bytes_per_us, ahead=1)
        return Running(options, range(6), times, [(0, store)], 1)

    # 10 us a fetch: each hides behind the operator before it; two slots are in use
    assert hidden_bytes(line(10.0), {}) == 500 - 200
    # 40 us a fetch: hidden once its window, one operator, is long enough: never
    assert hidden_bytes(line(2.5), {}) == 0
    late = stream(line(2.5), 50.0, {})
    assert late.freed_bytes >= 50
    assert stream(line(10.0), 0.0, {}).store == [-1] * 6
    assert stream(line(10.0), 1.0, {0: 0.0}).freed_bytes == 0


def test_one_large_problem_end_to_end() -> None:
    base = Pipelines(random.Random(3)).problem()
    ops = tuple(f"p{n}" for n in range(400))
    options = tuple(
        Option(
            f"{op}:{label_}",
            (op,),
            label_,
            flat(us),
            weight_size_bytes=size,
            error=error,
            place="one",
        )
        for n, op in enumerate(ops)
        for label_, us, size, error in (
            ("fp16", 4.0 + n % 3, 20, 0.0),
            ("int8", 3.0 + n % 5, 10, 0.001 * (1 + n % 7)),
            ("int4", 3.5, 5, 0.004 * (1 + n % 7)),
        )
    )
    problem = Problem(
        ops=ops,
        edges=tuple(pairwise(ops)),
        options=options,
        settings=(SETTING,),
        limits=replace(base.limits, error=0.6, latency_us=None, memory_size_bytes=None,
                       throughput_per_s=None, devices=4, price_per_hour=None, query_cost=None,
                       energy_j=None),
        objectives=(Objective.LATENCY,),
        places=(Place("one", "a", 1),),
        devices=(replace(base.devices[0], name="a", memory_size_bytes=2200, count=4),),
        stages=4,
    )  # fmt: skip
    solution = solve(problem, time_limit_s=60.0, gap=0.02, workers=1)
    assert solution.gap is not None
    assert solution.gap <= 0.02
    assert not check(problem, solution)
