"""Weights that stream lie side by side where they would not fit otherwise.

A plan that streams holds a session for each of its parts, and places for two of them. No option
knows of that: which parts there are follows from the whole, and a search scatters what streams
among what stays, which is half a hundred parts where a few would do. So where a plan does not fit
with what its parts hold, the groups that stream are chosen anew, in one row: for each first one the
fewest that let it fit, and of these rows the quickest. Judged by the checker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Stage, Status
from planner.place.variant import HOST
from planner.solve.check import check, priced, value

_STREAMED = f"@{HOST}"
_STARTS = 24
"""Places at which a row may begin that are tried."""


def roomy(problem: Problem, found: Solution, uncounted: Callable[[Solution], int]) -> Solution:
    """A solution that fits with what its parts hold; the one found where there is none.

    Args:
        uncounted: bytes that a solution holds beyond what the problem counts of it.
    """
    room = _room_bytes(problem)

    def fits(plan: Solution) -> bool:
        return room is None or _used_bytes(plan) + uncounted(plan) <= room

    if found.totals is None or len(found.stages) != 1 or fits(found):
        return found
    plans = [plan for plan in _rows(problem, found, fits) if plan is not None]
    return min(plans, key=lambda plan: plan.objective, default=found)


def _rows(
    problem: Problem, found: Solution, fits: Callable[[Solution], bool]
) -> Iterator[Solution | None]:
    """For each first group the plan with the fewest groups behind it that fits."""
    known = {option.name for option in problem.options}
    bases = [name.removesuffix(_STREAMED) for name in found.stages[0].chosen]
    turnable = [name for name in bases if name in known and name + _STREAMED in known]
    for first in range(0, len(turnable), max(1, len(turnable) // _STARTS)):
        low, high, best = 1, len(turnable) - first, None
        while low <= high:
            middle = (low + high) // 2
            row = frozenset(turnable[first : first + middle])
            plan = _turned(problem, found, turnable, row)
            if plan is not None and fits(plan):
                best, high = plan, middle - 1
            else:
                low = middle + 1
        yield best


def _turned(
    problem: Problem, found: Solution, turnable: Sequence[str], row: Collection[str]
) -> Solution | None:
    """With this row streaming and the rest resident; None where that breaks a limit."""
    names = {name: name + _STREAMED if name in row else name for name in turnable}

    def renamed(chosen: Sequence[str]) -> tuple[str, ...]:
        return tuple(names.get(name.removesuffix(_STREAMED), name) for name in chosen)

    def stage(each: Stage) -> Stage:
        return replace(each, chosen=renamed(each.chosen))

    plan = replace(
        found, chosen=renamed(found.chosen), stages=tuple(stage(each) for each in found.stages)
    )
    totals = priced(problem, plan)
    values = tuple(value(totals, objective) for objective in problem.objectives)
    bound = tuple(min(b, v) for b, v in zip(found.bound, values, strict=False))
    gap = (values[0] - bound[0]) / values[0] if bound and values[0] > 0 else found.gap
    is_best = found.status is Status.OPTIMAL and values == found.objective
    status = Status.OPTIMAL if is_best else Status.FEASIBLE
    plan = replace(plan, status=status, totals=totals, objective=values, bound=bound, gap=gap)
    return None if check(problem, plan) else plan


def _room_bytes(problem: Problem) -> int | None:
    limits = [problem.limits.memory_size_bytes, *(d.memory_size_bytes for d in problem.devices)]
    return min((limit for limit in limits if limit is not None), default=None)


def _used_bytes(found: Solution) -> int:
    assert found.totals is not None
    return max(found.totals.stage_memory_size_bytes, default=found.totals.memory_size_bytes)
