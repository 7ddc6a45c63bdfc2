"""Better schedules by CP-SAT: neighbourhoods of the best plan, then the whole below it.

A neighbourhood is a group and what is near it, free among all slots, with everything else where it
is; half of them hold a slot whole, so that it may move along the graph. It grows while it is
searched through quickly, and shrinks while it is not (Shaw, CP 1998).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import monotonic

import numpy as np

from planner.ir.solution import Solution, Status
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.flow import Flow
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import spread
from planner.solve.assign.program import Effort, search, settle
from planner.solve.assign.regions import around, is_open, neighbours, plan_of
from planner.solve.assign.schedule_model import PRECISION, build_schedule
from planner.solve.backend import Answer
from planner.solve.pace import Pace
from planner.solve.trusted import NAME

BETTER = 1e-6
"""Relative: what a neighbourhood must gain."""
WORK = 2.0
"""Deterministic seconds of one search."""
SIZE, LEAST, MOST = 30, 8, 400
"""Groups placed anew, to start with and at the ends."""
ABOVE = 2**-16
"""Relative: the whole may find the incumbent again, so that its neighbourhoods start there."""


def improve_schedule(best: Incumbent, flow: Flow, rng: random.Random, until: float) -> None:
    """Searches neighbourhoods of the best plan until a time."""
    size = float(SIZE)
    near = neighbours(flow.groups)
    is_over = Pace(until)
    while not is_over() and is_open(best) and best.slots is not None:
        plan = _plan(best, flow)
        free = _free(plan, round(size), near, rng, flow)
        fixed = {v: slot for v, slot in enumerate(plan) if v not in free}
        model = build_schedule(flow, best.value_us * (1 - BETTER), fixed=fixed)
        if model is None:
            continue
        effort = Effort(until - monotonic(), rng.randrange(2**30), best.workers, work=WORK)
        found = search(model.program, effort)
        if found.answer is Answer.INTERRUPTED:
            raise KeyboardInterrupt
        if found.values is not None:
            _offer(best, flow, model.read(found.values), f"neighbourhoods, {NAME}")
        is_quick = found.answer in (Answer.INFEASIBLE, Answer.OPTIMAL)
        size = min(max(size * (1.1 if is_quick else 0.9), LEAST), MOST)


def search_schedule(best: Incumbent, flow: Flow) -> None:
    """The whole below the incumbent, or any plan, until proof or the end of the time."""
    is_known = best.slots is not None
    cutoff = best.value_us * (1 + ABOVE) if is_known else latest_us(flow)
    model = build_schedule(flow, cutoff)
    if model is None:
        return
    if is_known:
        model.hint(_plan(best, flow))

    def on_point(values: list[int], bound: int) -> None:
        _offer(best, flow, model.read(values), NAME)
        best.raise_bound(bound * model.unit_us, NAME)

    effort = Effort(best.remaining_s, best.seed, best.workers, best.gap)
    found = search(model.program, effort, on_point, reached=best.value_us / model.unit_us)
    settle(best, found, cutoff, model.unit_us)
    # a path rounds down an operator and what it moves, each by less than a unit
    lost_us = 2 * len(flow.before) * PRECISION * cutoff
    best.rounding = max(best.rounding, lost_us / best.value_us if best.value_us > 0 else 0.0)


def latest_us(flow: Flow) -> float:
    """No schedule ends later: everything one after another where it is slowest, with all that can
    be paid for what moves."""
    groups = flow.groups
    slowest = np.where(np.isfinite(groups.time_us), groups.time_us, 0.0).max(axis=0).sum()
    moves = sum(net.cost_us * (1 + len(net.targets)) for net in groups.nets)
    return float(slowest + moves) * (1 + ABOVE) + 1e-9


def _plan(best: Incumbent, flow: Flow) -> list[int]:
    """Slots of the groups; all slots of an unlimited kind are one."""
    one = {
        slot: flow.groups.kinds[k].slots[0] for k in flow.unlimited for slot in
        flow.groups.kinds[k].slots
    }  # fmt: skip
    return [one.get(slot, slot) for slot in plan_of(flow.groups, best)]


def _free(
    plan: Sequence[int], size: int, near: list[list[int]], rng: random.Random, flow: Flow
) -> set[int]:
    """Groups to place anew."""
    bounded = {slot for k in flow.bounded for slot in flow.groups.kinds[k].slots}
    used = sorted(bounded.intersection(plan))
    start = rng.randrange(len(plan))
    if used and rng.random() < 0.5:
        chosen = rng.choice(used)
        inside = [v for v, slot in enumerate(plan) if slot == chosen]
        found = around(rng.choice(inside), size, near, len(plan), rng)
        return found | set(inside) if len(inside) <= 3 * size else found
    return around(start, size, near, len(plan), rng)


def _offer(best: Incumbent, flow: Flow, plan: Sequence[int], strategy: str) -> None:
    """Takes a plan that the checker accepts."""
    problem = best.problem
    assert problem.assignment is not None
    slots = spread(flow.groups, plan)
    named = dict(zip(problem.ops, slots, strict=True))
    names = [problem.assignment.slots[slot].name for slot in slots]
    answer = Solution(
        Status.FEASIBLE,
        tuple(option.name for option in options_at(problem, named)),
        slots=tuple(zip(problem.ops, names, strict=True)),
    )
    if not check_assignment(problem, answer)[1]:
        best.offer(slots, strategy)
