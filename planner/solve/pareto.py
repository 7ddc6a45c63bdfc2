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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner.errors import UsageError
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.bounded import below, bounded, can_bound
from planner.solve.check import check
from planner.solve.frontier import Solver, three
from planner.solve.solve import solve

Asked = Callable[[Problem, Sequence[Solution]], Solution]
"""Solves a problem, given plans that keep its limits."""
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


def _split(
    box: _Box,
    problem: Problem,
    second: Objective,
    lexicographic: Solver,
) -> tuple[Solution | None, list[_Box]]:
    """One solve inside a box: the point it found, and the boxes that are left of it."""
    top = below(second, box.a.objective[1])
    middle = top if box.is_halved else min((box.a.objective[1] + box.floor) / 2, top)
    order = (problem.objectives[0], second)
    point = lexicographic(bounded(problem, second, middle), order)
    at_b = point.totals is None or point.objective[0] >= box.b.objective[0] * (1 - SAME)
    if at_b:
        is_empty = box.is_halved or middle == top
        return None, [] if is_empty else [_Box(box.a, box.b, middle, is_halved=True)]
    above = [] if middle == top else [_Box(box.a, point, middle)]
    return point, [*above, _Box(point, box.b, box.b.objective[1])]


def pareto(
    problem: Problem,
    objectives: tuple[Objective, ...] = (Objective.LATENCY, Objective.MEMORY),
    *,
    points: int = 20,
    time_limit_s: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    workers: int = 2,
    asked: Asked | None = None,
) -> tuple[Solution, ...]:
    """At most `points` efficient plans of two or three objectives, first objective rising; all of
    them when there are fewer.

    Each carries its own status, bound and gap, and values in the order of `objectives`. Every limit
    of the problem is kept. All but the first must be objectives that a limit can bound: a
    pipeline's latency comes first.

    Args:
        time_limit_s: limit of each point's solve; a point that hit it may not be efficient and
        says so.
        asked: solves in place of `solve`, whose limits (`time_limit_s` to `workers`) are then its.

    Raises:
        UsageError: the problem makes no sense, or the objectives cannot be traded against each
        other.
    """
    _refuse(problem, objectives)
    known: list[Solution] = []

    def solved(candidate: Problem, plans: Sequence[Solution]) -> Solution:
        return solve(
            candidate,
            time_limit_s=time_limit_s,
            gap=gap,
            seed=seed,
            workers=workers,
            known=plans,
        )

    def lexicographic(candidate: Problem, order: tuple[Objective, ...]) -> Solution:
        plans = [plan for plan in known if not check(candidate, _bare(plan))]
        found = (asked or solved)(replace(candidate, objectives=order), plans)
        if found.totals is not None:
            known.append(found)
        return found

    if len(objectives) == 3:
        found, _ = three(problem, objectives, points, lexicographic)
        return tuple(sorted(found, key=lambda point: point.objective))
    return _two(problem, (objectives[0], objectives[1]), points, lexicographic)


def _refuse(problem: Problem, objectives: tuple[Objective, ...]) -> None:
    if not 2 <= len(objectives) <= 3 or len(set(objectives)) < len(objectives):
        raise UsageError(
            f"no frontier of {', '.join(each.value for each in objectives) or 'nothing'}",
            fix="name two or three different objectives",
        )
    for objective in objectives[1:]:
        if not can_bound(problem, objective):
            raise UsageError(
                f"no frontier of {objectives[0].value} against {objective.value}",
                fix=f"name {objective.value} first"
                if objective is Objective.LATENCY
                else f"leave {objective.value} out: nothing can limit it here",
            )


def _bare(plan: Solution) -> Solution:
    """The choice alone, without what was claimed under other limits."""
    return Solution(
        Status.FEASIBLE,
        plan.chosen,
        plan.conversions,
        plan.setting,
        is_uncertain=plan.is_uncertain,
        stages=plan.stages,
    )


def _two(
    problem: Problem, objectives: tuple[Objective, Objective], points: int, lexicographic: Solver
) -> tuple[Solution, ...]:
    first, second = objectives
    start = lexicographic(problem, (first, second))
    if start.totals is None or points < 2:
        return (start,) if start.totals is not None else ()
    least = lexicographic(problem, (second, first))
    if least.totals is None or least.objective[0] >= below(second, start.objective[1]):
        return (start,)
    end = lexicographic(bounded(problem, second, least.objective[0]), (first, second))
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
        boxes += [part for part in more if part.floor < below(second, part.a.objective[1])]
    return tuple(sorted(found, key=lambda point: (point.objective[0], -point.objective[1])))
