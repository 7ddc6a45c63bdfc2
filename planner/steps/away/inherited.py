"""A plan found under narrower limits is one under wider ones: no search need do worse.

Searches stop at their share of the time: the fastest plan of eight devices with every format may
come out behind that of plain formats alone, which has a fraction of the options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isclose

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import TOLERANCE, check, priced, value


def inherited(problem: Problem, found: Solution, plans: Iterable[Solution]) -> Solution:
    """The best of what a search of the problem found and of plans of narrower problems, with what
    the search proved. Judged by the checker."""
    best = found
    for plan in plans:
        tried = _priced(problem, plan, found)
        if tried is None:
            continue
        is_better = best.totals is None or _is_less(tried.objective, best.objective)
        best = tried if is_better and not check(problem, tried) else best
    return best


def _is_less(some: Sequence[float], others: Sequence[float]) -> bool:
    """By the first objective in which they differ by more than sums are rounded: a plan that was
    proved is not given up for an equal one."""
    pairs = zip(some, others, strict=True)
    differ = (one < other for one, other in pairs if not isclose(one, other, rel_tol=TOLERANCE))
    return next(differ, False)


def _priced(problem: Problem, plan: Solution, found: Solution) -> Solution | None:
    """The plan as one of the problem; None where it uses what the problem does not have."""
    try:
        totals = priced(problem, plan)
    except KeyError:
        return None
    values = tuple(value(totals, objective) for objective in problem.objectives)
    bound = tuple(min(b, v) for b, v in zip(found.bound, values, strict=False))
    gap = (values[0] - bound[0]) / values[0] if bound and values[0] > 0 else found.gap
    return replace(
        found,
        status=Status.FEASIBLE,
        chosen=plan.chosen,
        conversions=plan.conversions,
        setting=plan.setting,
        stages=plan.stages,
        slots=plan.slots,
        is_uncertain=plan.is_uncertain,
        totals=totals,
        objective=values,
        bound=bound,
        gap=gap,
    )
