"""Bounds of two stages by branching on where the first of them ends: against enumeration."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import product
from time import monotonic

import pytest

from planner.ir.devices import Device, Link, Place
from planner.ir.problem import Limits, Objective, Option, Problem, State, Transfer
from planner.solve.check import check, priced, value
from planner.solve.scale.boundary import Boundary
from planner.solve.solve import solve
from planner.solve.stages.streaming import fullest
from tests.solve.pipelines import plans
from tests.solve.problems import SETTING, flat
from tests.solve.test_large import problems

SEND_US, RUN_US, BRANCHES = 100.0, 1.0, 6


def raised(problem: Problem, sequence: tuple[int, int]) -> tuple[float, float]:
    """The bound of the relaxation, and the best that branching reaches."""
    tree = Boundary(problem, 0, "high_us", sequence, problem.objectives[0])
    assert tree.bound == -math.inf
    tree.raise_to(-1.0, math.inf, 5.0)
    first = tree.bound
    tree.raise_to(math.inf, monotonic() + 5.0, 5.0)
    return first, tree.bound


def test_holds_for_every_plan_of_two_stages() -> None:
    compared = improved = 0
    for problem in problems(150):
        cut = replace(
            problem,
            settings=problem.settings[:1],
            options=tuple(replace(o, latency=o.latency[:1]) for o in problem.options),
            conversions=tuple(replace(c, latency=c.latency[:1]) for c in problem.conversions),
            limits=replace(problem.limits, latency_us=None),
        )
        if cut.stages < 2 or len(cut.ops) < 2:
            continue
        found = [plan for plan in plans(cut) if len(plan.stages) == 2 and not check(cut, plan)]
        for sequence in product(range(len(cut.places)), repeat=2):
            names = [cut.places[k].name for k in sequence]
            mine = [p for p in found if [stage.place for stage in p.stages] == names]
            first, bound = raised(cut, (sequence[0], sequence[1]))
            assert bound >= first
            improved += bound > first
            for plan in mine:
                reached = value(priced(cut, plan), cut.objectives[0])
                assert bound <= reached * (1 + 1e-7) + 1e-7
                compared += 1
    assert compared >= 100
    assert improved >= 10


def fork(memory: int) -> Problem:
    """Parallel branches of ten bytes between a first and a last operator, on two devices."""
    branches = tuple(f"b{n}" for n in range(BRANCHES))
    ops = ("first", *branches, "last")
    parts = [("first", ()), *((b, ("first",)) for b in branches), ("last", branches)]
    return Problem(
        ops=ops,
        edges=tuple((source, op) for op, sources in parts for source in sources),
        options=tuple(
            Option(
                op,
                (op,),
                "fp32",
                flat(RUN_US),
                tuple(State(source, "plain") for source in sources),
                (State(op, "plain"),),
                weight_size_bytes=10 * (op in branches),
            )
            for op, sources in parts
        ),
        settings=(SETTING,),
        wanted=(State("last", "plain"),),
        limits=Limits(devices=2),
        objectives=(Objective.LATENCY,),
        places=(Place("one", "a", 1),),
        devices=(Device("a", memory, 2),),
        links=(Link("a", "a", SEND_US, 1.0),),
        stages=2,
        transfers=tuple(
            Transfer(f"send {op}", State(op, "plain"), State(op, "plain"), (0,)) for op in ops
        ),
    )


@pytest.mark.parametrize(("memory", "sent"), [(55, 1), (40, 2), (30, 3)])
def test_counts_what_a_cut_amid_branches_sends(memory: int, sent: int) -> None:
    """The first stage runs as many branches as the second has no memory for, and sends what each of
    them makes, besides what all others read."""
    problem = fork(memory)
    first, bound = raised(problem, (0, 0))
    runs = SETTING.overhead[0].expected_us + RUN_US * (BRANCHES + 2)
    assert first < runs + SEND_US
    assert bound == pytest.approx(runs + SEND_US * (sent + 1))
    assert solve(problem, workers=1).objective[0] == pytest.approx(bound)


def test_without_room_nothing_is_left() -> None:
    assert raised(fork(25), (0, 0))[1] == math.inf


def test_copies_are_not_branched_on() -> None:
    """An operator that may run twice may lie on both sides."""
    first, bound = raised(replace(fork(40), repeatable=frozenset({"first"})), (0, 0))
    assert bound == first


@pytest.mark.parametrize("seed", range(20))
def test_windows_that_lie_in_no_other_are_enough(seed: int) -> None:
    """Every set of positions that some window of moments sees is part of one that is kept."""
    rng = random.Random(seed)
    positions = set(rng.sample(range(30), rng.randint(1, 15)))
    ahead = rng.randint(0, 8)

    def seen(moment: int) -> set[int]:
        return {q for q in positions if moment <= q <= moment + ahead}

    kept = [seen(moment) for moment in fullest(positions, ahead)]
    for moment in range(30):
        assert any(seen(moment) <= each for each in kept)
    assert not any(a < b for a in kept for b in kept)
