"""First plans of assignments by largest load: filled slots, cuts between blocks, their clock."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from planner.ir.assignment import Contiguity
from planner.ir.solution import Solution, Status
from planner.solve import pace
from planner.solve.assign import free, schedule
from planner.solve.assign.blocks import block_of, cut_in_blocks
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.fill import Filler, fill
from planner.solve.assign.glue import most_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial
from planner.solve.assign.linear import Cut, cut
from planner.solve.pace import Cooling, Pace, never
from planner.solve.solve import solve
from tests.solve.test_assign import Maker, wide, wide_chain
from tests.solve.test_crossings import load_of


def is_chain(groups: Groups, found: Cut) -> bool:
    """Whether edges go forward, and no slot holds more than it can."""
    held: dict[int, float] = {}
    for group, stage in enumerate(found.stage):
        kind = found.kinds[stage]
        held[stage] = held.get(stage, 0.0) + float(groups.size_bytes[kind, group])
    fits = all(size <= groups.kinds[found.kinds[p]].capacity_bytes for p, size in held.items())
    return fits and all(found.stage[a] <= found.stage[b] for a, b in groups.order)


def test_filled_slots_are_plans_below_their_cutoff() -> None:
    filled = 0
    for number in range(120):
        problem = Maker(number, scheduled=False, contiguity=Contiguity.CHAIN).problem()
        groups = initial(problem)
        found = fill(groups, range(groups.count), never)
        if found is None:
            continue
        assert is_chain(groups, found)
        assert load_of(groups, found) == pytest.approx(found.value_us, abs=1e-12)
        best = cut(groups, range(groups.count))
        assert best is not None
        assert best.value_us <= found.value_us + 1e-9
        filled += 1
        below = Filler(groups, range(groups.count)).fill(found.value_us)
        assert below is None or below.value_us < found.value_us
    assert filled >= 80


def test_one_slot_that_takes_all_takes_all() -> None:
    groups = initial(wide_chain(12, 3))
    found = Filler(groups, range(groups.count)).fill(most_us(groups))
    assert found is not None
    assert len(found.kinds) == 1


def test_cuts_between_blocks_are_cuts() -> None:
    groups = initial(wide_chain(40, 1))
    order = range(groups.count)
    whole = cut(groups, order)
    blocks = block_of(groups, order, 13)
    assert sorted(blocks) == blocks
    assert set(blocks) == set(range(13))
    found = cut_in_blocks(groups, order, 13, math.inf, math.inf)
    assert whole is not None
    assert found is not None
    assert is_chain(groups, found)
    assert load_of(groups, found) == pytest.approx(found.value_us)
    assert whole.value_us <= found.value_us < 1.5 * whole.value_us


def test_a_pace_ends_before_the_step_that_would_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[0])
    is_over = Pace(10.0, 0.0)
    for at, expected in ((4.0, False), (6.0, False), (9.0, True), (9.4, False), (9.9, True)):
        now[0] = at
        assert is_over() is expected


def test_a_walk_is_cold_when_its_steps_or_its_time_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace, "monotonic", lambda: now[0])
    cooling = Cooling(10.0, _begun=0.0)
    for at, done, expected in ((0.0, 0.0, 0.0), (1.0, 0.5, 0.5), (8.0, 0.5, 0.8), (9.0, 1.0, 1.0)):
        now[0] = at
        assert cooling(done) == expected
        assert cooling.is_late is (at >= 8.0)
    now[0] = 10.0
    assert cooling(0.6) == 1.0
    over = Cooling(10.0, _begun=10.0)
    assert over(0.0) >= 1.0
    assert over.is_late


def test_a_free_plan_starts_from_the_contiguous_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but its first step: never worse, and no proof of it is taken over."""
    bounded = 0
    for name in ("walk_on", "_anneal"):
        monkeypatch.setattr(free, name, lambda *_: None)
    monkeypatch.setattr(free, "is_open", lambda _: False)
    for number in range(12):
        problem = wide_chain(30, number)
        assert problem.assignment is not None
        loose = replace(problem.assignment, contiguity=Contiguity.FREE)
        later = time.monotonic() + 60.0
        best = Incumbent(replace(problem, assignment=loose), later, number, 1, 0.0)
        free.solve_free(best)
        chain = solve(problem, time_limit_s=20.0, workers=1)
        assert chain.status is Status.OPTIMAL
        assert best.value_us <= chain.objective[0] * (1 + 1e-9)
        bounded += best.bound_us < best.value_us * (1 - 1e-6)
    assert bounded >= 6


@pytest.mark.parametrize("limit_s", [0.0, 0.05])
def test_no_time_still_gives_what_is_checked(limit_s: float) -> None:
    """A plan where there is memory enough, contiguous, free or scheduled."""
    chain = wide_chain(30, 1)
    assert chain.assignment is not None
    free_plan = replace(chain, assignment=replace(chain.assignment, contiguity=Contiguity.FREE))
    for problem in (chain, free_plan, wide(30, 1)):
        found = solve(problem, time_limit_s=limit_s, workers=1)
        assert found.status in (Status.FEASIBLE, Status.OPTIMAL)
        assert found.hit_time_limit or found.status is Status.OPTIMAL


def test_schedules_begin_with_filled_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but its first steps, and cheap crossings: often better than all on the CPU, and
    always what the checker says."""
    monkeypatch.setattr(schedule, "_by_diagrams", lambda *_, **__: None)
    monkeypatch.setattr(schedule, "is_open", lambda _: False)
    better = 0
    for number in range(12):
        problem = wide(30, number)
        assert problem.assignment is not None
        dear = problem.assignment.crossings
        crossings = tuple(replace(one, latency_us=one.latency_us / 20) for one in dear)
        problem = replace(problem, assignment=replace(problem.assignment, crossings=crossings))
        assert problem.assignment is not None
        best = Incumbent(problem, time.monotonic() + 60.0, number, 1, 0.0)
        schedule.solve_schedule(best)
        assert best.slots is not None
        slot_of = dict(zip(problem.ops, best.slots, strict=True))
        names = tuple(option.name for option in options_at(problem, slot_of))
        named = tuple((op, problem.assignment.slots[slot].name) for op, slot in slot_of.items())
        totals, broken = check_assignment(problem, Solution(Status.FEASIBLE, names, slots=named))
        assert not broken
        assert totals.weighted_latency_us == pytest.approx(best.value_us)
        better += any(not problem.assignment.slots[slot].is_unlimited for slot in best.slots)
    assert better >= 5
