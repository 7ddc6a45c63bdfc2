"""Better chains by large neighbourhoods: most groups stay in their stage, CP-SAT places the rest.

The stages keep their kinds and order. What stays in a stage becomes one group there, so that a
model is as small as its neighbourhood: groups of the fullest stage and of stages beside it, placed
anew for a lesser largest load, or groups around any one, for less work in all at no more load:
room for the next, as in `regions`, whose walk this is. Walks of single groups (`walk`) cannot swap
what fits only together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from time import monotonic

from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, quotient, spread
from planner.solve.assign.program import FALSE, TRUE, Effort, Program, search
from planner.solve.assign.regions import (
    BETTER,
    PATIENCE,
    Walk,
    around,
    neighbours,
    plan_of,
    work_after,
)
from planner.solve.assign.stages import StageModel, add_rules
from planner.solve.assign.walk import chain_of
from planner.solve.assign.windows import speed
from planner.solve.backend import Answer
from planner.solve.trusted import NAME

UNIT = 2**-20
"""Of time, relative to the cutoff. Times are rounded down, by half a unit each on average: cutoffs
on the largest load are lower by this, so that what is better in the model mostly is better."""
SIZE, LEAST, MOST = 80.0, 12.0, 400.0
"""Groups placed anew, to start with and at the ends."""
BESIDE = 3
"""Stages beside the fullest one that take part, at most."""
TOGETHER = 0.4
"""How often the work in all is lessened instead of the largest load."""
RATE = 2**10
"""The unit in which rates of work are counted."""


def improve_chain(
    best: Incumbent, groups: Groups, rng: random.Random, until: float, comebacks: int
) -> None:
    """Searches neighbourhoods of the best chain until a time, or until so many walks came back in
    vain; the plan walks, the best is kept."""
    if best.slots is None:
        return
    near = neighbours(groups)
    walk, vain = Walk.at(groups, plan_of(groups, best), SIZE), 0
    while monotonic() < until and not best.is_proved:
        if walk.fruitless > 2 * PATIENCE:
            vain = 0 if best.value_us < walk.least_us * (1 - BETTER) else vain + 1
            if vain >= comebacks:
                return
            walk = Walk.at(groups, plan_of(groups, best), walk.size, work_after(vain + 1))
        walk.fruitless += 1
        is_together = rng.random() < TOGETHER
        _step(best, groups, walk, rng, until, near, is_together=is_together)


def _step(
    best: Incumbent,
    groups: Groups,
    walk: Walk,
    rng: random.Random,
    until: float,
    near: list[list[int]],
    *,
    is_together: bool,
) -> None:
    order = chain_of(groups, walk.plan)
    every = [slot for kind in groups.kinds for slot in kind.slots]
    for slot in [slot for slot in every if slot not in set(order)]:
        order.insert(rng.randint(0, len(order)), slot)  # an empty stage may stand anywhere
    stage_of = {slot: p for p, slot in enumerate(order)}
    stage = [stage_of[slot] for slot in walk.plan]
    free = sorted(_neighbourhood(groups, walk, stage, order, near, rng, is_together=is_together))
    better = walk.value_us * (1 - BETTER - UNIT * len(free) / 2)
    cutoff = walk.most_us if is_together else better
    kinds = [next(k for k, kind in enumerate(groups.kinds) if slot in kind.slots) for slot in order]
    model = model_around(groups, cutoff, kinds, stage, free, is_together=is_together)
    effort = Effort(until - monotonic(), rng.randrange(2**30), work=walk.work)
    found = search(model.program, effort)
    if found.values is not None:
        placed = model.read(found.values).stage[len(order) :]
        plan = list(walk.plan)
        for v, p in zip(free, placed, strict=True):
            plan[v] = order[p]
        walk.go(groups, plan, is_together=is_together)
        best.offer(spread(groups, walk.plan), f"neighbourhoods, {NAME}")
    if found.answer is Answer.INTERRUPTED:
        raise KeyboardInterrupt
    is_quick = found.answer in (Answer.INFEASIBLE, Answer.OPTIMAL)
    walk.size = min(max(walk.size * (1.1 if is_quick else 0.9), LEAST), MOST)


def _neighbourhood(
    groups: Groups,
    walk: Walk,
    stage: Sequence[int],
    order: Sequence[int],
    near: list[list[int]],
    rng: random.Random,
    *,
    is_together: bool,
) -> set[int]:
    """Groups to place anew."""
    size = round(walk.size)
    if is_together:
        return around(rng.randrange(groups.count), size, near, groups.count, rng)
    fullest = order.index(walk.fullest(groups))
    width = rng.randint(1, BESIDE)
    first = max(fullest - rng.randint(0, width), 0)
    inside = {v for v, p in enumerate(stage) if first <= p <= first + width}
    if len(inside) <= 2 * size:
        return inside
    start = rng.choice([v for v in sorted(inside) if stage[v] == fullest])
    limited = [[w for w in others if w in inside] for others in near]
    return around(start, size, limited, groups.count, rng) & inside


def model_around(
    groups: Groups,
    cutoff_us: float,
    kinds: Sequence[int],
    stage: Sequence[int],
    free: Collection[int],
    *,
    is_together: bool,
) -> StageModel:
    """All chains below a cutoff in which the groups that are not free keep their stages.

    The model's groups: what stays in each stage, then the free ones in their order.
    """
    stages, number = len(kinds), {v: n for n, v in enumerate(free)}
    of = [stages + number[v] if v in number else p for v, p in enumerate(stage)]
    part = quotient(groups, of, stages + len(number))
    program, unit = Program(), cutoff_us * UNIT
    low, high = [0] * part.count, [stages - 1] * part.count
    for p in range(stages):
        low[p] = high[p] = p
    for a, b in part.order:
        if a < stages:
            low[b] = max(low[b], a)
        if b < stages:
            high[a] = min(high[a], b)
    reach = [
        [TRUE if p <= a else FALSE if p > b else program.boolean() for p in range(stages + 1)]
        for a, b in zip(low, high, strict=True)
    ]
    kind = [[TRUE if k == here else FALSE for k in range(len(groups.kinds))] for here in kinds]
    most = math.floor(cutoff_us / unit)
    load = program.column(0, most)
    loads = [program.column(0, most) if is_together else load for _ in kinds]
    model = StageModel(part, cutoff_us, unit, program, reach, kind, load, loads)
    add_rules(model)
    if is_together:
        rates = [round(RATE * speed(groups, k)) for k in kinds]
        work = program.column(0, sum(rates) * most)
        program.row([*zip(rates, loads, strict=True), (-1, work)], None, 0)
        program.proto.clear_objective()
        program.minimise([(1, work)])
    return model
