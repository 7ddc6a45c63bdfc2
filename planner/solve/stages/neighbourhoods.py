"""Better plans by large neighbourhoods: most of a plan stays, the rest is solved anew.

What is free in turn: formats, streams where they are; streams, with formats as they are; places
and stages, with formats, groups and streams as they are; some operators in a row, or some anywhere,
with everything. The first three are the steps of planning one family after another, so that no such
step improves the plan that is left. (Shaw, CP 1998.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.stages.exact import Exact, search_exactly
from planner.solve.stages.families import Family, Part, around, decided, kept

FIRST_OPS, LEAST_OPS = 8, 4
"""Operators that are free at once, to start with and at least."""
WORK = 0.4
"""Deterministic seconds of one neighbourhood, of one worker (two find less in the same time); those
of a family grow where they are not searched through. The clock ends a search long after its work
should: CP-SAT 9.15 ends its process where time runs out while it loads a model, and there are
hundreds of them."""
CLOCK, LEAST_S = 10.0, 0.5
"""Seconds by the clock that a deterministic second may take, and seconds without which no search
begins."""
GROWTH = 1.3
FRUITLESS = 24
"""Turns without gain after which a plan is left."""
BETTER = 1e-6
"""Relative: what is worth finding."""
FAMILIES = {
    "formats": (Family.STREAM, Family.HOME),
    "streams": (Family.FORMAT, Family.HOME),
    "places": (Family.FORMAT, Family.GROUP, Family.STREAM),
}
"""What is kept while the named family is free."""
TURNS = ("formats", "streams", "row", "anywhere", "places", "row", "anywhere")


def improve(state: Exact, start: Solution, until: float, seed: int) -> None:
    """Neighbourhoods of a plan, in turn until the time, or until none gains; what beats the
    incumbent becomes it."""
    if state.problem.pairs:
        return  # their costs are listed by all options of an operator
    near = Exact(state.problem, until, state.gap, seed, state.workers, is_certain=True)
    if not near.offer(start, "known plan", 0.0, 0):
        return
    walk = _Walk(near, random.Random(seed))
    for kind in walk.turns():
        if state.is_interrupted or walk.is_over:
            return
        if monotonic() + LEAST_S >= until:
            state.is_clocked = True
            return
        walk.take(kind, until)
        state.is_clocked |= near.is_clocked
        state.is_interrupted |= near.is_interrupted
        for name in near.used:
            state.used.setdefault(name)
        if near.best is not None:
            bound_value = state.bounds[0] if state.bounds else -math.inf
            state.offer(near.best, "neighbourhoods", bound_value, 0)


@dataclass(slots=True)
class _Walk:
    """From plan to better plan."""

    state: Exact
    rng: random.Random
    size: float = FIRST_OPS
    family_work: float = WORK
    fruitless: int = 0
    turn: int = 0
    searched: set[str] = field(default_factory=set)
    """Neighbourhoods of the present plan that hold nothing better."""

    @property
    def is_over(self) -> bool:
        """Whether the plan is left: too many turns in vain, or nothing better at its places."""
        return self.fruitless >= FRUITLESS or "all" in self.searched

    def turns(self) -> Iterator[str]:
        """What is free, turn after turn."""
        while True:
            yield TURNS[self.turn % len(TURNS)]
            self.turn += 1

    def take(self, kind: str, until: float) -> None:
        """One turn."""
        plan, problem = self.state.best, self.state.problem
        assert plan is not None
        if kind in self.searched or (kind == "places" and len(problem.places) * problem.stages < 2):
            return
        before = self.state.values
        part = self._part(kind, problem, plan)
        is_family = kind in FAMILIES
        seed = self.rng.randrange(2**30)
        work = self.family_work if is_family else WORK
        is_done = search_below(self.state, part, until, seed, work)
        if self.state.values != before:
            self.searched, self.fruitless = set(), 0
            return
        self.fruitless += 1
        if not is_family:
            is_all = round(self.size) >= len(problem.ops)
            if is_done and is_all:
                self.searched.add("all")
            self.size = max(self.size * (GROWTH if is_done else 1 / GROWTH), LEAST_OPS)
        elif is_done:
            self.searched.add(kind)
        else:
            self.family_work *= GROWTH

    def _part(self, kind: str, problem: Problem, plan: Solution) -> Part:
        if kind in FAMILIES:
            return kept(problem, decided(problem, plan), FAMILIES[kind])
        size, ops = min(round(self.size), len(problem.ops)), problem.ops
        if kind == "anywhere":
            return around(problem, plan, set(self.rng.sample(ops, size)))
        start = self.rng.randrange(len(ops) - size + 1)
        return around(problem, plan, set(ops[start : start + size]))


def search_below(state: Exact, part: Part, until: float, seed: int, work: float) -> bool:
    """Looks for a plan of a part of the problem that is certain and better than the incumbent;
    whether the part was searched through."""
    end = min(until, monotonic() + CLOCK * work)
    if end - monotonic() < LEAST_S:
        state.is_clocked = True
        return False
    found = Exact(part.problem, end, state.gap, seed, 1, is_certain=True, work=work)
    found.sequence, found.homes = part.sequence, part.homes
    if state.best is not None:
        found.cutoff = state.values[0] - max(BETTER * abs(state.values[0]), 1e-12)
    status = search_exactly(found)
    _take(state, found)
    is_done = status in (Status.OPTIMAL, Status.INFEASIBLE)
    state.is_clocked |= not is_done
    return is_done


def _take(state: Exact, found: Exact) -> None:
    """What a search of a part found, if it is certain."""
    state.is_interrupted |= found.is_interrupted
    for name in found.used:
        state.used.setdefault(f"{name} on parts")
    if found.best is not None and not found.best.is_uncertain:
        bound = state.bounds[0] if state.bounds else -math.inf
        state.offer(found.best, "neighbourhoods", bound, 0)
