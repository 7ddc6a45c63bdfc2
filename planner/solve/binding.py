"""Which limits cost something, and what a little more of each would save."""

from __future__ import annotations

from dataclasses import dataclass

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution
from planner.solve.limits import STEPS, asked, relaxed, used, with_limit
from planner.solve.rivals import GAP
from planner.solve.solve import solve


@dataclass(frozen=True, slots=True)
class Binding:
    """A limit that costs something, and what relaxing it a little would save."""

    limit: str
    value: float
    used: float
    step: str
    """The relaxation in words, e.g. `1 ms more`."""
    objective: Objective
    """The first objective that improves without this limit."""
    saves: float
    """Improvement by the step, in the objective's unit."""
    saves_at_most: float
    """Improvement without the limit."""


def binding(
    problem: Problem,
    solution: Solution,
    *,
    time_limit_s: float = 5.0,
    gap: float = GAP,
    seed: int = 0,
    workers: int = 1,
) -> tuple[Binding, ...]:
    """The limits that make the plan worse than it could be, each with its price, by re-solving."""
    found = []
    for name in asked(problem):
        free = with_limit(problem, name, None)
        best = solve(free, time_limit_s=time_limit_s, gap=gap, seed=seed, workers=workers)
        number = _improves(solution, best, 2 * gap)
        if number is None:
            continue
        step = relaxed(problem, name)
        eased = solve(step, time_limit_s=time_limit_s, gap=gap, seed=seed, workers=workers)
        found.append(
            Binding(
                limit=name,
                value=float(getattr(problem.limits, name)),
                used=used(problem, solution, name),
                step=STEPS[name].words,
                objective=problem.objectives[number],
                saves=_saved(solution, eased, number),
                saves_at_most=_saved(solution, best, number),
            )
        )
    return tuple(found)


def _improves(solution: Solution, other: Solution, tolerance: float) -> int | None:
    """Number of the first objective in which another solution is better; None where it is not."""
    pairs = zip(solution.objective, other.objective, strict=False)
    for number, (ours, theirs) in enumerate(pairs):
        if abs(ours - theirs) > tolerance * max(abs(ours), abs(theirs)):
            return number if theirs < ours else None
    return None


def _saved(solution: Solution, other: Solution, number: int) -> float:
    if len(other.objective) <= number:
        return 0.0
    return max(0.0, solution.objective[number] - other.objective[number])
