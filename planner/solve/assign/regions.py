"""Better assignments by large neighbourhoods: most groups stay, the rest is placed anew by CP-SAT.

A neighbourhood holds groups of the most loaded slot, without which nothing gets better: with all
groups of one or two other slots, free among those slots; or with groups around one of them, free
among all. Where every slot is nearly full, none relieves one of them without filling others: so in
turn groups anywhere are placed anew for less work in all (fewer crossings, less on slow slots) at
the same largest load or, once that gains nothing, at a slightly larger one. What is saved so is
room for the next. Neighbourhoods grow while they are searched through quickly.
(Shaw, Using constraint programming and local search methods to solve vehicle routing problems,
CP 1998.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from planner.solve.assign.anneal import anneal, state_of
from planner.solve.assign.free_model import COARSE, all_work_us, build_free
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, Rates, quotient, spread
from planner.solve.assign.program import Effort, search
from planner.solve.assign.windows import speed
from planner.solve.backend import Answer
from planner.solve.pace import Cooling
from planner.solve.trusted import NAME

BETTER = 1e-6
"""Relative: what a neighbourhood must gain."""
WORK, MOST_WORK, DOUBLINGS = 0.2, 2.0, 8
"""Deterministic seconds of one search: twice as many every second time that a walk came back in
vain, at most so often. Many short searches by one worker gain more than few long ones by two."""
SIZE, LEAST, MOST = 40, 10, 400
"""Groups placed anew, to start with and at the ends."""
TOGETHER = 0.4
"""How often the work in all is lessened instead of the largest load."""
PATIENCE = 30
"""Searches without a better plan after which the largest load may be worse by `SLACK`; after twice
as many another walk begins: at the best plan, or at one where a part of it was moved at random."""
KICKED, KICK_STEPS = 0.3, 300
"""Share of the groups that are moved then, and steps of annealing per group that follow."""
SLACK = 0.004
"""Relative."""


def improve(best: Incumbent, groups: Groups, rng: random.Random, until: float) -> None:
    """Searches neighbourhoods of a plan until a time; the plan walks, the best is kept."""
    near, groups = neighbours(groups), with_speeds(groups)
    every = {slot for kind in groups.kinds for slot in kind.slots}
    walk, comebacks = Walk.at(groups, plan_of(groups, best)), 0
    while monotonic() < until and not best.is_proved and best.slots is not None:
        if walk.fruitless > 2 * PATIENCE:
            comebacks += 1
            start = plan_of(groups, best)
            if comebacks % 2:
                start = _kicked(groups, start, near, rng, until)
            walk = Walk.at(groups, start, walk.size, work_after(comebacks))
        walk.fruitless += 1
        is_together = rng.random() < TOGETHER
        if is_together:
            free = around(rng.randrange(groups.count), round(walk.size), near, groups.count, rng)
            slots = every
        else:
            free, slots = _neighbourhood(groups, walk.plan, round(walk.size), near, rng)
        part, fixed = _part(groups, walk.plan, sorted(free))
        model = build_free(
            part,
            walk.most_us if is_together else walk.value_us * (1 - BETTER),
            precision=COARSE,
            fixed=fixed,
            allowed=slots,
            together_us=walk.work_us if is_together else None,
        )
        if model is None:
            continue
        effort = Effort(until - monotonic(), rng.randrange(2**30), work=walk.work)
        found = search(model.program, effort)
        if found.values is not None:
            plan = list(walk.plan)
            for v, slot in zip(sorted(free), model.read(found.values)[len(fixed) :], strict=True):
                plan[v] = slot
            walk.go(groups, plan, is_together=is_together)
            best.offer(spread(groups, walk.plan), f"neighbourhoods, {NAME}")
        if found.answer is Answer.INTERRUPTED:
            raise KeyboardInterrupt
        is_quick = found.answer in (Answer.INFEASIBLE, Answer.OPTIMAL)
        walk.size = min(max(walk.size * (1.1 if is_quick else 0.9), LEAST), MOST)


def with_speeds(groups: Groups) -> Groups:
    """The groups with the rates that they are counted with, so that their parts count alike."""
    if groups.rates is not None:
        return groups
    kinds = range(len(groups.kinds))
    return replace(groups, rates=Rates(tuple(speed(groups, k) for k in kinds), (0.0,) * len(kinds)))


def _part(
    groups: Groups, plan: Sequence[int], free: Sequence[int]
) -> tuple[Groups, dict[int, int]]:
    """What stays in each slot as one group, then the free groups; and where the former are."""
    every = [slot for kind in groups.kinds for slot in kind.slots]
    number = {v: len(every) + n for n, v in enumerate(free)}
    place = {slot: p for p, slot in enumerate(every)}
    of = [number[v] if v in number else place[slot] for v, slot in enumerate(plan)]
    return quotient(groups, of, len(every) + len(free)), dict(enumerate(every))


def work_after(comebacks: int) -> float:
    """Deterministic seconds of one search after so many walks came back."""
    return min(WORK * 2.0 ** min(comebacks // 2, DOUBLINGS), MOST_WORK)


def plan_of(groups: Groups, best: Incumbent) -> list[int]:
    """The best plan, group by group."""
    assert best.slots is not None
    return [best.slots[members[0]] for members in groups.members]


def _kicked(
    groups: Groups,
    plan: Sequence[int],
    near: list[list[int]],
    rng: random.Random,
    until: float,
) -> list[int]:
    """Another plan near one: a part of the groups somewhere else, then a walk of annealing."""
    slots = [(slot, k) for k, kind in enumerate(groups.kinds) for slot in kind.slots]
    kicked = list(plan)
    size = max(round(KICKED * groups.count), 1)
    for v in around(rng.randrange(groups.count), size, near, groups.count, rng):
        able = [slot for slot, k in slots if np.isfinite(groups.time_us[k, v])]
        kicked[v] = rng.choice(able)
    state = state_of(groups, kicked)
    capacity = [groups.kinds[k].capacity_bytes for _, k in state.slots]
    if any(size > most for size, most in zip(state.size, capacity, strict=True)):
        kicked = list(plan)  # annealing keeps memory, it does not mend it
    steps = KICK_STEPS * groups.count
    return anneal(groups, kicked, steps, rng, Cooling(until))


@dataclass(slots=True)
class Walk:
    """A plan that moves: to a lesser largest load, or to less work in all at hardly more load."""

    plan: list[int]
    value_us: float
    work_us: float
    least_us: float
    """Largest load of the best plan of this walk."""
    size: float = SIZE
    work: float = WORK
    fruitless: int = 0
    """Searches since then."""

    @classmethod
    def at(cls, groups: Groups, plan: list[int], size: float = SIZE, work: float = WORK) -> Walk:
        """From a plan."""
        value_us, work_us = _priced(groups, plan)
        return cls(plan, value_us, work_us, value_us, size, work)

    @property
    def most_us(self) -> float:
        """The largest load that is let pass while the work in all gets less."""
        slack = SLACK if self.fruitless > PATIENCE else 0.0
        return max(self.value_us, self.least_us * (1 + slack))

    def fullest(self, groups: Groups) -> int:
        """The slot with the largest load."""
        state = state_of(groups, self.plan)
        return state.slots[max(range(len(state.slots)), key=state.load.__getitem__)][0]

    def go(self, groups: Groups, plan: list[int], *, is_together: bool) -> None:
        """Moves to a plan, if it really gains what was looked for."""
        value_us, work_us = _priced(groups, plan)
        if is_together:
            gains = work_us < self.work_us and value_us <= self.most_us * (1 + BETTER)
        else:
            gains = value_us < self.value_us
        if not gains:
            return
        self.plan, self.value_us, self.work_us = plan, value_us, work_us
        if value_us < self.least_us * (1 - BETTER):
            self.least_us, self.fruitless = value_us, 0


def _priced(groups: Groups, plan: Sequence[int]) -> tuple[float, float]:
    """Largest load, and the work in all."""
    state = state_of(groups, plan)
    kinds = [kind for _, kind in state.slots]
    return state.largest, all_work_us(groups, list(zip(kinds, state.load, strict=True)))


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
