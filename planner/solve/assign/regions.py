"""Better assignments by large neighbourhoods: most groups stay, the rest is placed anew by CP-SAT.

Every neighbourhood holds groups of the most loaded slot, without which nothing gets better: with
all groups of one or two other slots, free among those slots; or with groups around one of them,
free among all. It grows while it is searched through quickly, and shrinks while it is not.
(Shaw, Using constraint programming and local search methods to solve vehicle routing problems,
CP 1998.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import monotonic

from planner.solve.assign.anneal import state_of
from planner.solve.assign.free_model import COARSE, build_free
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, spread
from planner.solve.assign.program import Effort, search
from planner.solve.backend import Answer
from planner.solve.trusted import NAME

BETTER = 1e-6
"""Relative: what a neighbourhood must gain."""
WORK = 2.0
"""Deterministic seconds of one search."""
SIZE, LEAST, MOST = 40, 10, 400
"""Groups placed anew, to start with and at the ends."""


def improve(best: Incumbent, groups: Groups, rng: random.Random, until: float) -> None:
    """Searches neighbourhoods of the best plan until a time."""
    size = float(SIZE)
    near = neighbours(groups)
    while monotonic() < until and not best.is_proved and best.slots is not None:
        plan = [best.slots[members[0]] for members in groups.members]
        free, slots = _neighbourhood(groups, plan, round(size), near, rng)
        cutoff = best.value_us * (1 - BETTER)
        fixed = {v: slot for v, slot in enumerate(plan) if v not in free}
        model = build_free(groups, cutoff, precision=COARSE, fixed=fixed, allowed=slots)
        if model is None:
            continue
        effort = Effort(until - monotonic(), rng.randrange(2**30), best.workers, work=WORK)
        found = search(model.program, effort)
        if found.values is not None:
            best.offer(spread(groups, model.read(found.values)), f"neighbourhoods, {NAME}")
        if found.answer is Answer.INTERRUPTED:
            raise KeyboardInterrupt
        is_quick = found.answer in (Answer.INFEASIBLE, Answer.OPTIMAL)
        size = min(max(size * (1.1 if is_quick else 0.9), LEAST), MOST)


def neighbours(groups: Groups) -> list[list[int]]:
    """Groups that share a net with each."""
    near: list[set[int]] = [set() for _ in range(groups.count)]
    for net in groups.nets:
        for target in net.targets:
            near[net.source].add(target)
            near[target].add(net.source)
    return [sorted(others) for others in near]


def _neighbourhood(
    groups: Groups, plan: Sequence[int], size: int, near: list[list[int]], rng: random.Random
) -> tuple[set[int], set[int]]:
    """Groups to place anew, and the slots they may go to."""
    state = state_of(groups, plan)
    heaviest = state.slots[max(range(len(state.slots)), key=state.load.__getitem__)][0]
    every = {slot for kind in groups.kinds for slot in kind.slots}
    heavy = [v for v, slot in enumerate(plan) if slot == heaviest]
    if rng.random() < 0.5 or len(every) <= 2:
        return around(rng.choice(heavy), size, near, groups.count, rng), every
    others = rng.sample(sorted(every - {heaviest}), min(len(every) - 1, rng.randint(1, 2)))
    slots = {heaviest, *others}
    inside = [v for v, slot in enumerate(plan) if slot in slots]
    if len(inside) <= 3 * size:  # few slots: more groups are searched in the same time
        return set(inside), slots
    start = rng.choice(heavy)
    limited = [[w for w in others if plan[w] in slots] for others in near]
    return around(start, 3 * size, limited, groups.count, rng) & set(inside), slots


def around(
    start: int, size: int, near: list[list[int]], count: int, rng: random.Random
) -> set[int]:
    """A start, what is near it, and so on, until there are enough; other starts if need be."""
    found: dict[int, None] = {start: None}
    waiting = [start]
    while len(found) < min(size, count):
        if not waiting:
            waiting = [rng.randrange(count)]
            found.setdefault(waiting[0])
        v = waiting.pop(rng.randrange(len(waiting)))
        for w in near[v]:
            if w not in found and len(found) < size:
                found[w] = None
                waiting.append(w)
    return set(found)


def is_open(best: Incumbent) -> bool:
    """Whether there is something to search for, and time."""
    is_over = best.is_proved or best.is_interrupted or best.is_infeasible
    return not is_over and best.remaining_s > 0
