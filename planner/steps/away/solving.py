"""One solve of a problem of devices elsewhere: counted, searched, checked for room.

The search for the fewest devices and the frontier ask the same; what differs is the order of
objectives, the limits and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner.graph.sandbox import Bounds, LimitError, Sandbox
from planner.ir.problem import Limits, Option, Problem
from planner.ir.solution import Solution, Status
from planner.place.machine import links
from planner.progress import Reporter
from planner.spec.constraints import Constraints
from planner.steps.away.inherited import inherited
from planner.steps.away.narrowed import narrowed
from planner.steps.away.offers import Posed
from planner.steps.away.roomy import roomy
from planner.steps.away.streams import parts_of
from planner.steps.away.target import Away
from planner.steps.away.unswapped import unswapped

_PATIENCE, _STARTING_S = 3.0, 60.0
"""A search that takes so many times its limit, and this longer, hangs."""
_MOST_BYTES = 16 * 2**30
_COUNTING = 0.3
"""Share of a solve for counts of alike groups, before it and after it."""


@dataclass(frozen=True, slots=True)
class Solving:
    """How problems of one request are solved."""

    constraints: Constraints
    posed: Posed
    away: Away
    reporter: Reporter

    def at_most(
        self, devices: int, limits: Limits, keep: Callable[[Option], bool] | None = None
    ) -> Problem:
        """The request's problem on so many devices, and the connections that these have.

        Args:
            limits: all of them, `devices` among them.
            keep: options that may be chosen; all where not given.
        """
        problem = narrowed(self.posed.problem, limits, keep)
        return replace(problem, links=links(self.away.predictor, self.away.machine, devices))

    def solve(
        self, problem: Problem, seconds: float, gap: float, plans: Sequence[Solution] = ()
    ) -> Solution:
        """The best plan that is found in time, never worse than those handed on.

        Args:
            gap: relative; at which the search may stop where the user asks for less.
            plans: of problems with narrower limits.
        """
        found = self._solution(problem, seconds, max(self.constraints.solver.gap, gap))
        return roomy(
            problem,
            unswapped(problem, inherited(problem, found, plans)),
            lambda each: parts_of(each, self.posed.variants).uncounted_bytes,
        )

    def _solution(self, problem: Problem, seconds: float, gap: float) -> Solution:
        from planner.solve.alike.solve import counted, improved, is_decided

        known = counted(problem, gap=gap, time_limit_s=_COUNTING * seconds)
        if known is not None and is_decided(known, gap):
            return known
        plans = [known] if known is not None and known.totals is not None else []
        found = self._searched(problem, seconds, gap, plans)
        return improved(problem, found, known, _COUNTING * seconds)

    def _searched(
        self, problem: Problem, seconds: float, gap: float, known: Sequence[Solution]
    ) -> Solution:
        """What the solvers find, in a process of their own: CP-SAT 9.15 ends the process where its
        time runs out before its heuristics stand (`fixed_search != nullptr`)."""
        bounds = Bounds(wall_s=_PATIENCE * seconds + _STARTING_S, memory_size_bytes=_MOST_BYTES)
        sandbox = Sandbox("searching for a plan", str(self.constraints.model), bounds)
        seed = self.constraints.solver.seed
        try:
            return sandbox.call(_solved, problem, seconds, gap, seed, tuple(known))
        except LimitError as error:
            self.reporter.note(f"a search ended early: {error.what}")
            if known:
                return replace(known[0], hit_time_limit=True)
            return Solution(Status.UNKNOWN, hit_time_limit=True)


def _solved(
    problem: Problem, seconds: float, gap: float, seed: int, known: tuple[Solution, ...]
) -> Solution:
    from planner.solve.solve import solve

    return solve(problem, time_limit_s=seconds, gap=gap, seed=seed, known=known)
