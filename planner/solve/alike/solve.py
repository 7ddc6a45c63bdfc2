"""Counts around the search of a pipeline: proof, plan and bound before it, a better plan after.

`counted` decides a problem alone where its plan reaches its bound; else both go into `improved`,
with what another search found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from time import monotonic

from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Stage, Status
from planner.solve.alike.counts import Counted, Fleet, Frame, columns_of, count
from planner.solve.alike.kinds import Kind, Rows, is_countable, kinds, undominated
from planner.solve.alike.layout import Layouts, orders
from planner.solve.alike.plans import first_plan, limits_of, recounted, room_of
from planner.solve.check import check, priced, value

_NAME = "counts of alike groups"
_HIGH, _EXPECTED, _LOW = 2, 1, 0
BOUND_GAP = 1e-3
"""Relative gap at which a bound is good enough."""
_MOST_ORDERS = 5000
"""Of stages, those at one place being equal."""
_SHARES = 6
"""Layouts that get a whole share of the time, if each needs it."""


def counted(problem: Problem, *, gap: float, time_limit_s: float) -> Solution | None:
    """What counts alone say: infeasible, a plan with its bound, or only a bound (unknown).

    None where they say nothing: groups of several operators, stores, and what is feasible under
    another objective.
    """
    if not is_countable(problem) or problem.limits.devices is None:
        return None
    started = monotonic()
    ends = (_HIGH,) if problem.limits.latency_us is None else (_HIGH, _EXPECTED, _LOW)
    rows = Rows(problem, charged=True)
    all_kinds = kinds(problem, rows)
    for end in ends:
        frame = Frame((_all_room(problem),), problem.limits.error, limits_of(problem), end)
        small = [undominated(kind, columns_of(frame)) for kind in all_kinds]
        found = count(small, frame, time_limit_s / 4, BOUND_GAP)
        if found.is_infeasible:
            continue
        if problem.objectives[0] is not Objective.LATENCY:
            return None
        plan = _best(problem, end, found, gap, time_limit_s / 4)
        known = _certified(problem, plan, found, gap, monotonic() - started)
        if problem.stages <= 1 or is_decided(known, gap):
            return known
        staged = _staged(problem, all_kinds, end, found, time_limit_s / 4)
        if not staged.is_infeasible:
            plan = _better(problem, plan, _laid(problem, rows, staged, end, time_limit_s / 4))
            return _certified(problem, plan, staged, gap, monotonic() - started)
    return Solution(Status.INFEASIBLE, solver=_NAME, seconds=monotonic() - started)


def _staged(
    problem: Problem, all_kinds: Sequence[Kind], end: int, found: Counted, seconds: float
) -> Counted:
    """The same with stages that stand at places of their own: devices of one stage hold nothing
    for those of another, which one room for all cannot know."""
    frame = Frame((), problem.limits.error, limits_of(problem), end, _fleet(problem))
    small = [undominated(kind, columns_of(frame), by_place=True) for kind in all_kinds]
    staged = count(small, frame, seconds, BOUND_GAP)
    return replace(staged, bound_us=max(staged.bound_us, found.bound_us))


def _laid(
    problem: Problem, rows: Rows, staged: Counted, end: int, seconds: float
) -> Solution | None:
    """The best plan on the stages that counts set up, in any order."""
    pairs = zip(problem.places, staged.stands, strict=False)
    stages = [place for place, many in pairs for _ in range(many)]
    if len(stages) <= 1:
        return None
    until = monotonic() + seconds
    layouts = Layouts.of(problem, rows, stages)
    tried: set[tuple[Stage, ...]] = set()
    best: Solution | None = None
    lines = islice(orders(stages), _MOST_ORDERS)
    for order, rest in ((line, rest) for line in lines for rest in range(len(line))):
        if monotonic() > until:
            return best
        start = layouts.plan(order, rest)
        if start is None or start.stages in tried:
            continue
        tried.add(start.stages)
        plan = recounted(problem, start, end, seconds / _SHARES)
        if plan is not None:
            best = _better(problem, best, _valued(problem, plan))
    return best


def _better(problem: Problem, one: Solution | None, other: Solution | None) -> Solution | None:
    """The one with the smaller first value."""
    found = [plan for plan in (one, other) if plan is not None]
    return min(found, key=lambda plan: _first(problem, plan), default=None)


def is_decided(found: Solution, gap: float) -> bool:
    """Whether counts alone answer."""
    if found.status is Status.INFEASIBLE:
        return True
    return found.totals is not None and found.gap is not None and found.gap <= gap


def improved(problem: Problem, found: Solution, known: Solution | None, seconds: float) -> Solution:
    """What a search found, with formats and residency counted anew, under the better bound."""
    if known is None or not found.stages or found.totals is None:
        return found
    best = found
    if not found.is_uncertain:
        other = recounted(problem, found, _HIGH, seconds)
        if other is not None and _first(problem, other) < _first(problem, found):
            best = _valued(problem, replace(other, solver=f"{found.solver}, {_NAME}"))
    bound = found.bound[:1]
    if known.bound and known.is_uncertain == best.is_uncertain:
        bound = (max(*bound, *known.bound[:1]),)
    return _bounded(best, (*bound, *found.bound[1:]))


def _best(
    problem: Problem, end: int, found: Counted, gap: float, seconds: float
) -> Solution | None:
    """The best of the plans on one place each; the first one within the gap ends it."""
    best: Solution | None = None
    for place in sorted(problem.places, key=lambda each: -each.degree):
        start = first_plan(problem, place.name, end, seconds / 2)
        plan = None if start is None else recounted(problem, start, end, seconds / 2)
        if plan is None:
            continue
        plan = _valued(problem, plan)
        if best is None or plan.objective < best.objective:
            best = plan
        if plan.objective[0] * (1 - gap) <= found.bound_us:
            break
    return best


def _certified(
    problem: Problem, plan: Solution | None, found: Counted, gap: float, seconds: float
) -> Solution:
    bound = (found.bound_us, *(0.0 for _ in problem.objectives[1:]))
    if plan is None:
        return Solution(Status.UNKNOWN, bound=bound, solver=_NAME, seconds=seconds)
    best = _bounded(replace(plan, solver=_NAME, seconds=seconds), bound)
    is_near = best.gap is not None and best.gap <= gap and not any(best.objective[1:])
    return replace(best, status=Status.OPTIMAL if is_near else Status.FEASIBLE)


def _bounded(plan: Solution, bound: tuple[float, ...]) -> Solution:
    kept = tuple(min(b, v) for b, v in zip(bound, plan.objective, strict=True))
    value_us = plan.objective[0]
    return replace(plan, bound=kept, gap=(value_us - kept[0]) / value_us if value_us > 0 else 0.0)


def _valued(problem: Problem, plan: Solution) -> Solution:
    totals = priced(problem, plan)
    values = tuple(value(totals, objective) for objective in problem.objectives)
    found = replace(plan, totals=totals, objective=values, status=Status.FEASIBLE)
    assert not check(problem, found), "only plans that the checker let pass come here"
    return found


def _first(problem: Problem, plan: Solution) -> float:
    return value(priced(problem, plan), problem.objectives[0])


def _all_room(problem: Problem) -> float:
    """Of the devices that may be used, the largest."""
    rooms = [room_of(problem, place.name) / place.degree for place in problem.places]
    return (problem.limits.devices or 1) * max(rooms, default=0.0)


def _fleet(problem: Problem) -> Fleet:
    """Stages on the devices that may be used."""
    return Fleet(
        degrees=tuple(place.degree for place in problem.places),
        rooms=tuple(room_of(problem, place.name) for place in problem.places),
        devices=problem.limits.devices or 1,
        stages=max(problem.stages, 1),
    )
