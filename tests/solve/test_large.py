"""The way for large pipelines: its bounds hold and its plans are checked, against the exact way."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from time import monotonic

import numpy as np
import pytest

from planner.ir.devices import Place, Store
from planner.ir.problem import Objective, Option, Problem
from planner.ir.solution import Status
from planner.solve.check import check
from planner.solve.scale.dual import Dual, most_devices
from planner.solve.scale.edges import forest
from planner.solve.scale.labels import label
from planner.solve.scale.residency import Running, hidden_bytes, stream
from planner.solve.scale.rows import rows
from planner.solve.scale.solve import search_large
from planner.solve.solve import solve
from planner.solve.stages.exact import Exact
from tests.solve.pipelines import Pipelines
from tests.solve.problems import SETTING, flat

BOUNDED = (Objective.LATENCY, Objective.ERROR, Objective.ENERGY, Objective.COST, Objective.DEVICES)


def problems(count: int) -> list[Problem]:
    """Random problems with one objective that the dual bounds."""
    found = []
    for seed in range(count):
        rng = random.Random(seed)
        problem = Pipelines(rng).problem()
        found.append(replace(problem, objectives=(rng.choice(BOUNDED),), pairs=(), tied=()))
    return found


def dual(problem: Problem) -> Dual:
    """The first setting's dual."""
    labelled = label(problem, 0, "high_us")
    return Dual(
        labelled,
        forest(labelled, "high_us"),
        rows(labelled, problem.objectives[0]),
        most_devices(problem),
        1.0,
    )


def test_any_multipliers_bound_the_optimum() -> None:
    compared = 0
    for number, problem in enumerate(problems(120)):
        one = replace(problem, settings=problem.settings[:1])
        cut = replace(
            one,
            options=tuple(replace(o, latency=o.latency[:1]) for o in one.options),
            conversions=tuple(replace(c, latency=c.latency[:1]) for c in one.conversions),
        )
        best = solve(cut, workers=1)
        if best.status is not Status.OPTIMAL or best.is_uncertain:
            continue
        found = dual(cut)
        if any(not len(kind.rank) for kind in found.labelled.kinds):
            continue
        points = np.random.default_rng(number).exponential(2.0, (4, len(found.rows.rows)))
        bounds = [found.evaluate(point).bound for point in points]
        bounds.append(found.solve(monotonic() + 5.0, 30).bound)
        assert max(bounds) <= best.objective[0] * (1 + 1e-7) + 1e-7
        compared += 1
    assert compared >= 30


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
