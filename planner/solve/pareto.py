"""The exact frontier between two objectives, by the ε-constraint method.

Minimising (f1, f2) lexicographically under f2 <= ε gives an efficient point for every ε. Let a and
b be neighbours (f1 rises, f2 falls from a to b). What may still lie between them has f2[b] < f2 <
f2[a].
    ε in the middle   a new point p, or b again: then no point lies below the middle
    ε just below a    the next point after a, or b again: then none lies between them
The widest box is split first, in the middle, so that few points spread well; once every box is
proved empty the frontier is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.errors import UsageError
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution
from planner.solve.limits import with_limit
from planner.solve.solve import solve

RESOLUTION = 1e-6
"""Relative: values of f2 closer than this count as the same (bytes are told apart exactly)."""
SAME = 1e-7
"""Relative: values of f1 closer than this count as the same."""


@dataclass(frozen=True, slots=True)
class _Box:
    """Where points between a and b may lie: floor < f2 < f2[a]."""

    a: Solution
    b: Solution
    floor: float
    is_halved: bool = False
    """The lower half is known to be empty: the next step goes just below a."""

    def size(self, width: float, height: float) -> float:
        """Area relative to the whole frontier's."""
        wide = (self.b.objective[0] - self.a.objective[0]) / max(width, 1e-300)
        return wide * (self.a.objective[1] - self.floor) / max(height, 1e-300)


def _bounded(problem: Problem, objective: Objective, value: float) -> Problem:
    """The problem with f2 <= value."""
    limits = problem.limits
    if objective is Objective.MEMORY:
        memory = limits.memory_size_bytes
        return with_limit(
            problem, "memory_size_bytes", value if memory is None else min(value, memory)
        )
    if objective is Objective.ERROR:
        error = limits.error
        return with_limit(problem, "error", value if error is None else min(value, error))
    rate = max(1e6 / max(value, 1e-9), limits.throughput_per_s or 0.0)
    return with_limit(problem, "throughput_per_s", rate)


def _below(objective: Objective, value: float) -> float:
    return value - 1 if objective is Objective.MEMORY else value * (1 - RESOLUTION)


def _split(
    box: _Box,
    problem: Problem,
    second: Objective,
    lexicographic: Callable[[Problem, tuple[Objective, Objective]], Solution],
) -> tuple[Solution | None, list[_Box]]:
    """One solve inside a box: the point it found, and the boxes that are left of it."""
    top = _below(second, box.a.objective[1])
    middle = top if box.is_halved else min((box.a.objective[1] + box.floor) / 2, top)
    order = (problem.objectives[0], second)
    point = lexicographic(_bounded(problem, second, middle), order)
    at_b = point.totals is None or point.objective[0] >= box.b.objective[0] * (1 - SAME)
    if at_b:
        is_empty = box.is_halved or middle == top
        return None, [] if is_empty else [_Box(box.a, box.b, middle, is_halved=True)]
    above = [] if middle == top else [_Box(box.a, point, middle)]
    return point, [*above, _Box(point, box.b, box.b.objective[1])]


def pareto(
    problem: Problem,
    objectives: tuple[Objective, Objective] = (Objective.LATENCY, Objective.MEMORY),
    *,
    points: int = 20,
    time_limit_s: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    workers: int = 2,
) -> tuple[Solution, ...]:
    """At most `points` efficient plans, first objective rising; all of them when there are fewer.

    Each carries its own status, bound and gap. Every limit of the problem is kept. The second
    objective must be memory, error or latency (those that a limit can bound).

    Args:
        time_limit_s: limit of each point's solve; a point that hit it may not be efficient and
        says so.

    Raises:
        UsageError: the problem makes no sense, or the objectives cannot be traded against each
        other.
    """
    first, second = objectives
    if first is second or second in (Objective.COST, Objective.ENERGY):
        raise UsageError(
            f"no frontier of {first.value} against {second.value}",
            fix="name memory, error or latency second, and another objective first",
        )

    def lexicographic(candidate: Problem, order: tuple[Objective, Objective]) -> Solution:
        tried = replace(candidate, objectives=order)
        return solve(tried, time_limit_s=time_limit_s, gap=gap, seed=seed, workers=workers)

    start = lexicographic(problem, (first, second))
    if start.totals is None or points < 2:
        return (start,) if start.totals is not None else ()
    least = lexicographic(problem, (second, first))
    if least.totals is None or least.objective[0] >= _below(second, start.objective[1]):
        return (start,)
    end = lexicographic(_bounded(problem, second, least.objective[0]), (first, second))
    end = end if end.totals is not None else start
    found = [start, end]
    width = end.objective[0] - start.objective[0]
    height = start.objective[1] - end.objective[1]
    boxes = [_Box(start, end, end.objective[1])]
    while boxes and len(found) < points:
        box = max(boxes, key=lambda box: box.size(width, height))
        boxes.remove(box)
        point, more = _split(box, replace(problem, objectives=objectives), second, lexicographic)
        found += [point] if point is not None else []
        boxes += [part for part in more if part.floor < _below(second, part.a.objective[1])]
    return tuple(sorted(found, key=lambda point: (point.objective[0], -point.objective[1])))
