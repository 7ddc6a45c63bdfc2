"""Schedules whose unlimited slots have not memory for all: against enumeration."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from planner.ir.assignment import Contiguity
from planner.ir.devices import Device
from planner.ir.problem import Limits, Problem
from planner.ir.solution import Status
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import initial
from planner.solve.assign.schedule_fills import ScheduleFills, Setting
from tests.solve.test_assign import Maker, solved
from tests.solve.test_fills import value_of


def scarce(seed: int) -> Problem:
    """Operators are as large on the CPU, whose memory or the limit is a part of them all."""
    rng = random.Random(seed)
    problem = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
    options = tuple(replace(o, weight_size_bytes=rng.randint(0, 5)) for o in problem.options)
    room = rng.choice((6, 9, 12))
    if rng.random() < 0.5:
        return replace(problem, options=options, limits=Limits(memory_size_bytes=room))
    return replace(problem, options=options, devices=(Device("gpu", 9), Device("cpu", room)))


def test_memory_of_unlimited_slots_is_kept() -> None:
    optimal = scarcer = 0
    for seed in range(40):
        problem = scarce(seed)
        found = solved(problem, 2.0)
        if found is None:
            continue
        solution, _ = found
        optimal += solution.status is Status.OPTIMAL
        size = sum(option.weight_size_bytes for option in problem.options if option.place == "cpu")
        scarcer += size > 12
    assert optimal >= 20
    assert scarcer >= 5


def test_fills_leave_what_has_no_room_to_other_slots() -> None:
    filled = 0
    for seed in range(80):
        problem = scarce(seed)
        groups = initial(problem)
        if not np.isfinite(groups.time_us.min(axis=0)).all():
            continue
        best = Incumbent(problem, math.inf, seed, 1, 0.0)
        fills = ScheduleFills(best, groups, [range(groups.count)])
        for path_us, has_stretches in ((0.0, False), (0.0, True), (4.0, True)):
            found = fills.filled(Setting(0, 0.0, 20.0, has_stretches, path_us))
            if found is None:
                continue
            filled += 1
            assert value_of(problem, found) >= 0.0  # the checker accepts it
    assert filled >= 60
