"""Slots filled with some of the groups: kind by kind, or but for what stays on unlimited slots."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.assign.by_kind import fill_by_kind
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, spread
from planner.solve.assign.rates import with_rates
from planner.solve.assign.schedule_fills import ScheduleFills, Setting, between, paths_us
from planner.solve.pace import never
from tests.solve.test_assign import Maker, answers, option


def value_of(problem: Problem, slots: list[int]) -> float:
    """What a plan costs, after the checker accepted it."""
    assert problem.assignment is not None
    slot_of = dict(zip(problem.ops, slots, strict=True))
    names = [problem.assignment.slots[slot].name for slot in slots]
    chosen = tuple(o.name for o in options_at(problem, slot_of))
    answer = Solution(Status.FEASIBLE, chosen, slots=tuple(zip(problem.ops, names, strict=True)))
    totals, broken = check_assignment(problem, answer)
    assert broken == ()
    return totals.weighted_latency_us if problem.assignment.is_scheduled else totals.period_us


def test_plans_by_kind_are_plans() -> None:
    filled = 0
    for number in range(100):
        problem = Maker(number, scheduled=False, contiguity=Contiguity.FREE).problem()
        groups = with_rates(initial(problem))
        found = fill_by_kind(groups, range(groups.count), never)
        if found is None:
            continue
        filled += 1
        assert value_of(problem, spread(groups, found)) >= min(answers(problem)) - 1e-9
    assert filled >= 50


def test_each_kind_takes_what_only_it_can() -> None:
    """Every second operator runs on the CPUs only: chains would need a slot for each."""
    count = 40
    maker = Maker(0, scheduled=False, contiguity=Contiguity.FREE)
    problem = replace(
        maker.problem(),
        ops=tuple(f"o{op}" for op in range(count)),
        edges=tuple((f"o{op}", f"o{op + 1}") for op in range(count - 1)),
        options=tuple(option(op, ("gpu", "cpu")[op % 2], 1.0) for op in range(count)),
        assignment=Assignment(
            (*(Slot(f"gpu {n}", "gpu") for n in range(2)), Slot("cpu", "cpu", False)),
            (Crossing("o0", 0.0),),
        ),
    )
    groups = initial(problem)
    found = fill_by_kind(groups, range(count), never)
    assert found is not None
    assert value_of(problem, found) == 20.0
    loads = [found.count(slot) for slot in range(3)]
    assert max(loads[:2]) <= 13
    assert loads[2] == 20


def reached(groups: Groups, start: int) -> Iterator[list[int]]:
    """All paths from a group."""
    yield [start]
    for a, b in groups.order:
        if a == start:
            yield from ([start, *path] for path in reached(groups, b))


def test_paths_and_what_lies_between_are_those_of_enumeration() -> None:
    rng = random.Random(0)
    for number in range(80):
        problem = Maker(number, scheduled=True, contiguity=Contiguity.CHAIN).problem()
        groups = initial(problem)
        cpu = next(k for k, kind in enumerate(groups.kinds) if kind.is_unlimited)
        every = [path for v in range(groups.count) for path in reached(groups, v)]
        for v, longest in enumerate(paths_us(groups)):
            times = [sum(groups.time_us[cpu, u] for u in path) for path in every if v in path]
            assert longest == pytest.approx(max(times))
        chosen = {v for v in range(groups.count) if rng.random() < 0.4}
        inner = {v for path in every if {path[0], path[-1]} <= chosen for v in path}
        assert between(groups, chosen) == inner


@pytest.mark.parametrize("contiguity", [Contiguity.CHAIN, Contiguity.CONVEX])
def test_every_setting_fills_a_schedule(contiguity: Contiguity) -> None:
    rng, filled, left = random.Random(1), 0, 0
    for number in range(50):
        problem = Maker(number, scheduled=True, contiguity=contiguity).problem()
        groups = initial(problem)
        best = Incumbent(problem, math.inf, number, 1, 0.0)
        fills = ScheduleFills(best, groups, [range(groups.count)])
        least = min(answers(problem), default=math.inf)
        ways = itertools.product((0.0, 0.5), (1.0, 5.0, 50.0), (False, True), (0.0, 4.0))
        for slack, cutoff, has_stretches, path in ways:
            setting = Setting(0, slack, cutoff, has_stretches, path * rng.random())
            found = fills.filled(setting)
            if found is None:
                continue
            filled += 1
            left += len(set(found)) > 1
            assert value_of(problem, found) >= least - 1e-9
    assert filled >= 800
    assert left >= 200


def test_short_paths_leave_slots_to_long_ones() -> None:
    """Of thirty loose operators and a line of ten, the accelerator has time for the line alone."""
    line, count = 10, 40
    maker = Maker(0, scheduled=True, contiguity=Contiguity.CHAIN)
    cpu = [option(op, "cpu", 3.0) for op in range(count)]
    gpu = [option(op, "gpu", 0.5) for op in range(count)]
    problem = replace(
        maker.problem(),
        ops=tuple(f"o{op}" for op in range(count)),
        edges=tuple((f"o{op - 1}", f"o{op}") for op in range(count - line + 1, count)),
        options=(*cpu, *gpu),
        assignment=Assignment(
            (Slot("gpu", "gpu"), Slot("cpu", "cpu", pays_crossings=False, is_unlimited=True)),
            (Crossing(f"o{count - 1}", 1.0),),
            contiguity=Contiguity.CHAIN,
            is_scheduled=True,
        ),
    )
    best = Incumbent(problem, time.monotonic() + 60.0, 0, 1, 0.0)
    groups = initial(problem)
    ScheduleFills(best, groups, [range(groups.count)]).run(20, never)
    assert best.value_us == 5.0
