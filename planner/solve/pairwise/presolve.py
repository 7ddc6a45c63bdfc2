"""From the problem as given to one that is worth searching, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic

import numpy as np

from planner.solve.data import IntArray
from planner.solve.pairwise.contract import contract
from planner.solve.pairwise.data import Pairwise, firsts
from planner.solve.pairwise.memory import at_maximal_moments, fitting
from planner.solve.pairwise.rebuild import Lift, lifted, rebuild, restriction


@dataclass(frozen=True, slots=True)
class Core:
    """A smaller problem with the same feasible plans."""

    problem: Pairwise
    lifts: tuple[Lift, ...]
    is_feasible: bool = True
    """False: proved that no plan exists."""

    def lift(self, chosen: IntArray) -> IntArray:
        """The original problem's plan."""
        return lifted(self.lifts, chosen)


def presolve(problem: Pairwise, deadline: float = math.inf) -> Core:
    """Moments, followers, options that cannot fit; until nothing changes or the time is over."""
    if problem.limit is not None and problem.limit < 0:
        return Core(problem, (), is_feasible=False)
    return _reduced(at_maximal_moments(problem), (), deadline)


def cheaper(core: Core, problem: Pairwise, kept: np.ndarray, deadline: float = math.inf) -> Core:
    """The core with some options (flat table) and pairs (in `problem`) left out."""
    if not _has_options(problem, kept):
        return Core(problem, core.lifts, is_feasible=False)
    lift = restriction(problem, kept)
    return _reduced(rebuild(problem, lift), (*core.lifts, lift), deadline)


def _reduced(problem: Pairwise, lifts: tuple[Lift, ...], deadline: float) -> Core:
    while True:
        smaller = contract(problem, deadline)
        problem, lifts = smaller.problem, (*lifts, *smaller.lifts)
        if not smaller.is_feasible:
            return Core(problem, lifts, is_feasible=False)
        if monotonic() > deadline:
            return Core(problem, lifts)
        kept = fitting(problem)
        if kept.all():
            return Core(problem, lifts)
        if not _has_options(problem, kept):
            return Core(problem, lifts, is_feasible=False)
        lifts = (*lifts, restriction(problem, kept))
        problem = rebuild(problem, lifts[-1])


def _has_options(problem: Pairwise, kept: np.ndarray) -> bool:
    if not problem.nodes:
        return True
    return bool(np.logical_or.reduceat(kept, firsts(problem.sizes)[:-1]).all())
