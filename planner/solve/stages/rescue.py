"""Large pipelines, guarded: CP-SAT on single places where the way for them finds little or fails.

A plan of one stage is a plan, and the whole model of one place is often small enough for CP-SAT
where the whole of the problem is not: it sees tight memory, streams and conversions exactly. It is
asked for what time is left where the dual's way ends without a plan or with a gap, and after a
crash or a contradiction there, which must not cost the user his plan. Its plans, and those of one
decision after another, are improved by neighbourhoods. It proves nothing of other places: the bound
stays the dual's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from time import monotonic

from planner.errors import UsageError
from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import priced, value
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact
from planner.solve.stages.families import alone
from planner.solve.stages.neighbourhoods import improve
from planner.solve.stages.starts import first_plan, one_after_another

LARGE_SHARE, TINY_SHARE = 0.7, 0.3
"""Share of the time for the dual's way where single places are small, and where they are tiny: its
moves find more in hundreds of operators, CP-SAT in dozens."""
TINY_COLUMNS = 1_500
"""As `SINGLE_COLUMNS`."""
PLACES_SHARE = 0.25
"""Share of what is left then for a first plan of each place;"""
PART_SHARE = 0.5
"""of that, for each place, dear ones first;"""
ORDERS_SHARE = 0.35
"""of what is left then, for plans of one decision after another before any is improved;"""
START_SHARE = 0.5
"""of what is left then, for neighbourhoods of one start."""
WORTH = 2.0
"""Starts that are worse than the incumbent by this factor are left."""
FRUITLESS = 6
"""Starts without gain, one family decided after another, after which the search ends."""
SINGLE_COLUMNS = 6_000
"""Options and conversions of one place, options once more a store, up to which it is small."""


def search_guarded(state: Exact) -> Status:
    """`search_large`, then single places; whatever the former raises, plans are looked for."""
    parts = [
        part
        for place in _by_price(state.problem)
        if (part := alone(state.problem, place)) and _size(part) <= SINGLE_COLUMNS
    ]
    end = state.deadline
    if parts:
        is_tiny = max(map(_size, parts)) <= TINY_COLUMNS
        share = TINY_SHARE if is_tiny else LARGE_SHARE
        state.deadline = monotonic() + share * state.remaining_s
    try:
        status = search_large(state)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug there must not cost the user his plan
        state.used.setdefault(f"single places, after {type(error).__name__} in the dual")
        state.bounds, status = [], Status.UNKNOWN
        parts = parts or [
            part for p in _by_price(state.problem) if (part := alone(state.problem, p))
        ]
    state.deadline = end
    if status in (Status.OPTIMAL, Status.INFEASIBLE) or _is_close(state):
        return status
    if not state.is_interrupted:
        _search_parts(state, parts)
    return _status(state)


def _status(state: Exact) -> Status:
    """Optimal where places closed the gap; the first objective only is bounded."""
    if state.best is None:
        return Status.UNKNOWN
    is_proved = _is_close(state) and not state.best.is_uncertain and not any(state.values[1:])
    return Status.OPTIMAL if is_proved else Status.FEASIBLE


def _is_close(state: Exact) -> bool:
    """Whether the gap asked for is reached."""
    if state.best is None or not state.bounds:
        return False
    return state.bounds[0] >= state.values[0] - max(state.gap, 1e-9) * abs(state.values[0])


def _by_price(problem: Problem) -> list[Place]:
    devices = {device.name: device for device in problem.devices}
    return sorted(
        problem.places, key=lambda p: (-devices[p.device].price_per_hour * p.degree, p.name)
    )


def _size(problem: Problem) -> int:
    return len(problem.options) * (1 + len(problem.stores)) + len(problem.conversions)


def _search_parts(state: Exact, parts: Sequence[Problem]) -> None:
    """A plan of each place and some of one decision after another; neighbourhoods of these, best
    first; then further ones, until the gap is closed, the time ends or nothing more is found."""
    if state.best is not None and state.best.is_uncertain:
        return
    state.is_clocked |= state.hit_time_limit  # of the way before: what follows depends on it
    state.hit_time_limit = False
    starts = [state.best] if state.best is not None else []
    until = monotonic() + PLACES_SHARE * state.remaining_s
    for part in parts:
        if _is_over(state):
            break
        limit_s = max(until - monotonic(), 0.0) * PART_SHARE
        plan = first_plan(state, part, monotonic() + limit_s)
        starts += [plan] if plan is not None else []
    starts.sort(key=lambda plan: _value(state, plan))
    others = _others(state, parts, starts)
    until = monotonic() + ORDERS_SHARE * state.remaining_s
    for plan in others:
        starts += [plan] if plan is not None else []
        if monotonic() >= until:
            state.is_clocked = True
            break
    starts.sort(key=lambda plan: _value(state, plan))
    fruitless = 0
    for number, plan in enumerate(chain(starts, others)):
        if _is_over(state) or fruitless >= FRUITLESS:
            break
        before = state.values
        if plan is not None and _value(state, plan) <= WORTH * before[0]:
            improve(state, plan, monotonic() + START_SHARE * state.remaining_s, state.seed + number)
        fruitless = 0 if state.values != before else fruitless + 1
    state.hit_time_limit |= state.remaining_s <= 0 or not _is_close(state)


def _others(
    state: Exact, parts: Sequence[Problem], starts: Sequence[Solution]
) -> Iterator[Solution | None]:
    """Plans of one family after another, at the places of the best starts first, until the gap is
    closed or the time ends."""
    if _is_over(state):
        return
    names = dict.fromkeys(stage.place for plan in starts for stage in plan.stages)
    rank = {name: number for number, name in enumerate(names)}
    for part in sorted(parts, key=lambda each: rank.get(each.places[0].name, len(rank))):
        for plan in one_after_another(state, part):
            if plan is not None:
                bound = state.bounds[0] if state.bounds else 0.0
                state.offer(plan, "one decision after another", bound, 0)
            yield plan
            if _is_over(state):
                return


def _value(state: Exact, plan: Solution) -> float:
    return value(priced(state.problem, plan), state.problem.objectives[0])


def _is_over(state: Exact) -> bool:
    return state.is_interrupted or state.remaining_s <= 0 or _is_close(state)
