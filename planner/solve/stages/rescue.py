"""Large pipelines, guarded: CP-SAT on single places where the way for them finds little or fails.

A plan of one stage is a plan, and the whole model of one place is often small enough for CP-SAT
where the whole of the problem is not: it sees tight memory, streams and conversions exactly. It is
asked for what time is left where the dual's way ends without a plan or with a gap, and after a
crash or a contradiction there, which must not cost the user his plan. It proves nothing of other
places: the bound stays the dual's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from planner.errors import UsageError
from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.ir.solution import Status
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact, search_exactly
from planner.solve.stages.model import HIGH
from planner.solve.stages.neighbourhoods import improve

LARGE_SHARE = 0.6
"""Share of the time for the dual's way where single places are small."""
PART_SHARE = 0.5
"""Share of what is left then for each place but the last;"""
FIRST_SHARE = 0.3
"""of that, for plans without streams and groups;"""
WHOLE_SHARE = 0.5
"""of what is left then, for the whole place at once; the rest is for neighbourhoods."""
UNKNOWN_SHARE = 0.8
"""The same where no plan is known yet."""
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
        state.deadline = monotonic() + LARGE_SHARE * state.remaining_s
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
    return Status.FEASIBLE if state.best is not None else Status.UNKNOWN


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
    """Each part gets an equal share of the time that is left; the incumbent's own comes first."""
    if state.best is not None and state.end != HIGH:
        return
    known = {stage.place for stage in state.best.stages} if state.best is not None else set()
    ordered = sorted(parts, key=lambda part: part.places[0].name not in known)
    state.hit_time_limit = False
    for number, part in enumerate(ordered):
        if state.must_stop or state.remaining_s <= 0 or _is_close(state):
            break
        is_last = number + 1 == len(ordered)
        _search_part(state, part, state.remaining_s * (1.0 if is_last else PART_SHARE))
    state.hit_time_limit |= state.remaining_s <= 0 or not _is_close(state)


def _search_part(state: Exact, part: Problem, limit_s: float) -> None:
    """Without streams and groups first, whose model is small; where that does not fit, without
    groups; from there everything, then neighbourhoods."""
    until = monotonic() + limit_s
    whole = Exact(part, until, state.gap, state.seed, state.workers)
    if state.best is not None and not state.best.is_uncertain:
        whole.offer(state.best, "known plan", 0.0, 0)
    single = replace(part, options=tuple(o for o in part.options if len(o.ops) == 1))
    if {name for option in single.options for name in option.ops} == set(part.ops):
        for start in (_resident(single), single):
            if whole.best is None:
                _search_start(whole, start, FIRST_SHARE * (until - monotonic()))
    share = WHOLE_SHARE if whole.best is not None else UNKNOWN_SHARE
    whole.deadline = monotonic() + share * max(until - monotonic(), 0.0)
    if not whole.is_interrupted and search_exactly(whole) is not Status.OPTIMAL:
        improve(whole, until)
    state.is_interrupted |= whole.is_interrupted
    for name in whole.used:
        state.used.setdefault(f"{name} on one place")
    if whole.best is not None:
        bound = state.bounds[0] if state.bounds else -math.inf
        state.offer(whole.best, "CP-SAT on one place", bound, 0)


def _search_start(whole: Exact, start: Problem, limit_s: float) -> None:
    first = Exact(start, monotonic() + limit_s, whole.gap, whole.seed, whole.workers)
    search_exactly(first)
    whole.is_interrupted |= first.is_interrupted
    whole.used.update(first.used)
    if first.best is not None and not first.best.is_uncertain:
        whole.offer(first.best, "CP-SAT on one place", 0.0, 0)


def _resident(part: Problem) -> Problem:
    kept = (o if not o.stores else replace(o, stores=()) for o in part.options)
    return replace(part, options=tuple(kept), stores=())


def alone(problem: Problem, place: Place) -> Problem | None:
    """The problem with one stage at one place; None where an operator cannot run there."""
    options = tuple(o for o in problem.options if o.place in (None, place.name))
    if {name for option in options for name in option.ops} != set(problem.ops) or problem.pairs:
        return None
    names = {option.name for option in options}
    return replace(
        problem,
        options=options,
        conversions=tuple(c for c in problem.conversions if c.place in (None, place.name)),
        places=(place,),
        stages=1,
        transfers=(),
        forbidden=tuple(cut for cut in problem.forbidden if cut <= names),
    )
