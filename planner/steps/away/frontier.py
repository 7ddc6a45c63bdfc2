"""The frontier of plans for devices elsewhere, by ε-constraints on the number of devices.

Every device costs the same, so that a limit on their number is one on the price by the hour. And
of any plan of n devices: the fastest of at most n that is as exact and as small has no higher price
per query. Hence every efficient plan is found by minimising the other objectives at ascending
numbers of devices, and what is found at one is a plan at the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.pareto import pareto
from planner.steps.away.search import STEPS, Found
from planner.steps.away.solving import Solving

AXES: dict[str, Objective | None] = {
    "latency": Objective.LATENCY,
    "memory": Objective.MEMORY,
    "error": Objective.ERROR,
    "cost": None,
    "query": None,
    "devices": None,
}
"""What can be traded, and what the solver minimises for it; None: what the number decides."""
GAP = 0.01
"""Relative gap of a point at which its search may stop where less is asked, as for a plan."""
_SHARE = 0.3
"""Of the time left at a number of devices, for one of several points."""
_SLOWEST = 0.12
"""Share of the time limit for the plan that says what can be kept, where nothing keeps the limits:
as for the alternatives of a plan."""
_SECOND = {
    Objective.LATENCY: Objective.ERROR,
    Objective.ERROR: Objective.LATENCY,
    Objective.MEMORY: Objective.LATENCY,
}
"""What decides between plans that are equal in the one objective asked for."""


@dataclass
class Frontier:
    """All solves of one frontier."""

    solving: Solving
    axes: tuple[str, ...]
    points: int
    """At most, over all numbers of devices."""
    tried: list[Found] = field(default_factory=list)
    """Plans, and what was proved impossible; of ascending numbers of devices."""
    left_out: tuple[int, ...] = ()
    """Numbers of devices that time did not reach."""

    def run(self) -> list[Found]:
        """Everything found, also what another plan beats."""
        limit_s = self.solving.constraints.solver.time_limit_s
        self._until = monotonic() + limit_s
        counts = self.counts
        points = max(self.points // len(counts), 2)
        for number, devices in enumerate(counts):
            self.solving.reporter.progress(number, len(counts), words(devices))
            left_s = self._until - monotonic()
            if left_s <= 0:
                self.left_out = counts[number:]
                break
            self._turn_until = monotonic() + left_s / (len(counts) - number)
            self._at(devices, points)
        return [one for one in self.tried if one.is_plan]

    def slowest(self) -> Found:
        """The plan with all devices that no latency promise holds back, for who asks too much."""
        devices = self.counts[-1]
        base = self.solving.posed.problem
        limits = replace(base.limits, devices=devices, latency_us=None)
        problem = self.solving.at_most(devices, limits)
        seconds = _SLOWEST * self.solving.constraints.solver.time_limit_s
        solution = self.solving.solve(problem, seconds, GAP)
        return Found(f"{words(devices)}, however slow", devices, problem, solution, has_slo=False)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is minimised at a number of devices; latency first, which no limit can bound."""
        named = [found for axis in self.axes if (found := AXES[axis]) is not None]
        if "query" in self.axes:
            named.append(Objective.LATENCY)
        ordered = sorted(dict.fromkeys(named), key=lambda each: each is not Objective.LATENCY)
        return tuple(ordered)

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of devices, ascending: the largest alone where no axis asks for others."""
        most = self.solving.away.machine.gpus
        if all(AXES[axis] is not None for axis in self.axes):
            return (most,)
        asked = self.solving.constraints.target.gpus
        least = asked.minimum if asked is not None else 1
        most_counts = self.points if len(self.objectives) == 1 else max(self.points // 2, 1)
        return thinned(least, most, most_counts)

    def _at(self, devices: int, points: int) -> None:
        limits = replace(self.solving.posed.problem.limits, devices=devices)
        problem = self.solving.at_most(devices, limits)
        for solution in self._solutions(problem, points):
            self.tried.append(Found(words(devices), devices, problem, solution))

    def _solutions(self, problem: Problem, points: int) -> Sequence[Solution]:
        objectives = self.objectives
        if len(objectives) == 1:
            order = (objectives[0], _SECOND[objectives[0]])
            return [self._solve(replace(problem, objectives=order), ())]
        failed: list[Solution] = []

        def asked(candidate: Problem, plans: Sequence[Solution]) -> Solution:
            found = self._solve(candidate, plans)
            if found.totals is None and candidate.limits == problem.limits:
                failed.append(found)
            return found

        return pareto(problem, objectives, points=points, asked=asked) or failed

    def _solve(self, problem: Problem, plans: Sequence[Solution]) -> Solution:
        left_s = self._turn_until - monotonic()
        if left_s <= 0:
            return Solution(Status.UNKNOWN, hit_time_limit=True)
        share = _SHARE if len(self.objectives) > 1 else 1.0
        handed = [*plans, *(one.solution for one in self.tried if one.is_plan)]
        return self.solving.solve(problem, share * left_s, GAP, handed)


def thinned(least: int, most: int, many: int) -> tuple[int, ...]:
    """All whole numbers of a range, ends included; where these are too many, round ones."""
    found = list(range(least, most + 1))
    if len(found) > many:
        found = [least, *(n for n in STEPS if least < n < most), most]
    while len(found) > max(many, 2):
        found = [*found[:-1:2], found[-1]]
    return tuple(found)


def words(devices: int) -> str:
    """Of a number of devices."""
    return "1 GPU" if devices == 1 else f"up to {devices} GPUs"
