"""`solve_assignment(problem)`: the strategies of C12, and a check of what leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import numpy as np

from planner.errors import InfoptError, UsageError
from planner.ir.assignment import Contiguity
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.assign.chain import solve_chain
from planner.solve.assign.evaluate import totals
from planner.solve.assign.free import solve_free
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import together
from planner.solve.assign.schedule import solve_schedule
from planner.solve.check import check, value
from planner.solve.progress import Reporter, relative_gap

FINISH_SHARE, FINISH_S, FINISH_S_PER_OP = 0.1, 0.1, 5e-5
"""Of the time that is kept for the answer and its check: a share at most, and what they take."""


def solve_assignment(
    problem: Problem,
    *,
    time_limit_s: float,
    gap: float,
    seed: int,
    workers: int,
    reporter: Reporter | None = None,
) -> Solution:
    """The best assignment, with its certificate. The problem must be valid (`validate`).

    Raises:
        UsageError: the problem asks for something that an assignment cannot heed.
    """
    started = monotonic()
    kept_s = min(FINISH_SHARE * time_limit_s, FINISH_S + FINISH_S_PER_OP * len(problem.ops))
    deadline = started + time_limit_s - kept_s
    best = Incumbent(problem, deadline, seed, workers, gap, reporter)
    strategy = _strategy(problem)
    try:
        if np.isfinite(together(problem).time_us.min(axis=0)).all():
            strategy(best)
        else:
            best.is_infeasible = True
    except KeyboardInterrupt:
        best.is_interrupted = True
    return _certified(best, monotonic() - started)


def _strategy(problem: Problem) -> Callable[[Incumbent], None]:
    """Who solves a problem of this form."""
    assignment = problem.assignment
    if assignment is None or len(problem.objectives) != 1:
        raise UsageError(
            "a free assignment (C12) has one objective", fix="minimise the period, or the latency"
        )
    goal = problem.objectives[0]
    if goal is Objective.PERIOD and assignment.contiguity is Contiguity.CHAIN:
        return solve_chain
    if goal is Objective.PERIOD and assignment.contiguity is Contiguity.FREE:
        return solve_free
    if goal is Objective.LATENCY and assignment.is_scheduled:
        return solve_schedule
    raise UsageError(
        f"a free assignment (C12) cannot minimise {goal.value} in this form",
        fix="minimise the period; or, with a schedule, the latency",
    )


def _certified(best: Incumbent, seconds: float) -> Solution:
    problem = best.problem
    base = Solution(
        Status.UNKNOWN,
        hit_time_limit=best.hit_time_limit
        or best.is_clocked
        or (not best.is_proved and best.remaining_s <= 0),
        is_interrupted=best.is_interrupted,
        rounding=best.rounding,
        solver=" + ".join(best.used),
        seconds=seconds,
    )
    if best.slots is None or best.placed is None or problem.assignment is None:
        return replace(base, status=Status.INFEASIBLE) if best.is_infeasible else base
    names = [slot.name for slot in problem.assignment.slots]
    priced = totals(problem, best.placed)
    values = tuple(value(priced, objective) for objective in problem.objectives)
    bound = min(best.bound_us, values[0])
    solution = replace(
        base,
        status=Status.OPTIMAL if best.is_proved else Status.FEASIBLE,
        chosen=tuple(option.name for option in best.placed.options),
        setting=problem.settings[0].name,
        totals=priced,
        objective=values,
        bound=(bound, *(0.0 for _ in values[1:])),
        gap=relative_gap(values[0], bound),
        slots=tuple((op, names[slot]) for op, slot in zip(problem.ops, best.slots, strict=True)),
    )
    broken = check(problem, solution)
    if broken:
        raise InfoptError(
            f"the checker refuses the answer: {broken[0].constraint}, {broken[0].what}"
        )
    return solution
