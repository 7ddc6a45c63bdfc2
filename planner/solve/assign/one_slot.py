"""A lower bound on the largest load from one slot alone: some slot does the average, and pays.

Other kinds j take work off kind k at most at r_j = max_v t_kv / t_jv, so that with loads below T

    Σ_{slots of kind k} Σ_{v on it} t_kv >= Σ_v t_kv - Σ_j n_j·r_j·T

and one of the n_k slots does at least the n_k-th part A of it. Whatever set S of groups it runs,

    largest load >= min { w(S) + cost of the nets that S cuts : A <= w(S) = Σ_{v in S} t_kv < T }

a minimum cut of at least some weight, without any other slot. CP-SAT proves it in seconds where the
relaxation of the whole problem says nothing of crossings, if the weight is cut into slices: the
slice that bounds least is searched first, and longer each time it comes back.
"""

from __future__ import annotations

import heapq
import math
from itertools import pairwise
from time import monotonic

import numpy as np

from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.program import (
    FALSE,
    Effort,
    Program,
    fitted_sizes,
    negated,
    search,
    whole_units,
)
from planner.solve.backend import Answer
from planner.solve.trusted import NAME

PRECISION = 2**-30
"""The unit of time, relative to the cutoff."""
SLICES = 6
FIRST_S = 10.0
"""Seconds for a slice's first search; a slice that comes back gets twice as long."""


def average_us(groups: Groups, kind: int, cutoff_us: float) -> float:
    """A: what some slot of a kind does at least, if every load is below the cutoff."""
    here = groups.time_us[kind]
    must = np.where(np.isfinite(here), here, 0.0)
    taken = 0.0
    for other, slots in enumerate(groups.kinds):
        if other == kind:
            continue
        there = groups.time_us[other]
        must = np.where(there <= 0, 0.0, must)
        able = np.isfinite(there) & (there > 0)
        rate = float((must[able] / there[able]).max(initial=0.0))
        taken += len(slots.slots) * rate * cutoff_us
    return (float(must.sum()) - taken) / len(groups.kinds[kind].slots)


def raise_by_one_slot(best: Incumbent, groups: Groups, cutoff_us: float, until: float) -> None:
    """Raises the bound by the paying kind with most to do, as far as the time suffices."""
    averages = {
        k: average_us(groups, k, cutoff_us) for k, kind in enumerate(groups.kinds) if kind.pays
    }
    kind = max(averages, key=averages.__getitem__, default=None)
    if kind is None or not 0 < averages[kind] < cutoff_us:
        return
    ends = np.linspace(averages[kind], cutoff_us, SLICES + 1).tolist()
    # (bound, seconds for the next search, slice): a slot's load is at least its work
    queue = [(low, FIRST_S, low, high) for low, high in pairwise(ends)]
    while queue[0][0] < cutoff_us and monotonic() < until and not best.is_proved:
        bound, limit_s, low, high = heapq.heappop(queue)
        program = _program(groups, kind, (low, high), cutoff_us)
        effort = Effort(min(limit_s, until - monotonic()), best.seed, 1, linearization=2)
        found = search(program, effort)
        if found.answer is Answer.INTERRUPTED:
            raise KeyboardInterrupt
        if found.answer is Answer.INFEASIBLE:
            bound = cutoff_us
        elif found.answer is not Answer.FAILED:
            bound = min(max(bound, found.bound * cutoff_us * PRECISION), cutoff_us)
        heapq.heappush(queue, (bound, 2 * limit_s, low, high))
        best.raise_bound(queue[0][0], f"one slot, {NAME}")
        if found.answer is Answer.FAILED or _is_solved(found.answer, queue, low):
            return


def _is_solved(answer: Answer, queue: list[tuple[float, float, float, float]], low: float) -> bool:
    """Whether the slice that bounds least is proved: more time will not raise the bound."""
    return answer is Answer.OPTIMAL and queue[0][2] == low


def _program(groups: Groups, kind: int, span_us: tuple[float, float], cutoff_us: float) -> Program:
    unit = cutoff_us * PRECISION
    program = Program()
    is_able = groups.time_us[kind] < cutoff_us
    inside = [program.boolean() if able else FALSE for able in is_able]
    load = program.column(0, math.ceil(cutoff_us / unit))
    work = [
        (math.floor(groups.time_us[kind, v] / unit), x)
        for v, x in enumerate(inside)
        if x != FALSE and groups.time_us[kind, v] > 0
    ]
    paid = []
    for net in groups.nets:
        is_cut = program.boolean()
        paid.append((whole_units(net.cost_us, unit, cutoff_us), is_cut))
        for target in net.targets:
            a, b = inside[net.source], inside[target]
            program.clause(negated(a), b, is_cut)
            program.clause(a, negated(b), is_cut)
    low, high = (math.floor(end / unit) for end in span_us)
    program.row(work, low - len(work), high)
    program.row([*work, *paid, (-1, load)], None, 0)
    if math.isfinite(groups.kinds[kind].capacity_bytes):
        sizes, capacity = fitted_sizes(groups, kind)
        held = [(sizes[v], x) for v, x in enumerate(inside) if x != FALSE and sizes[v] > 0]
        program.row(held, None, capacity)
    program.minimise([(1, load)])
    return program
