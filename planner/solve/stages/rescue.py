"""Large pipelines, guarded: CP-SAT on single places where the way for them finds little or fails.

A plan of one stage is a plan, and the whole model of one place is often small enough for CP-SAT
where the whole of the problem is not: it sees tight memory, streams and conversions exactly. It is
asked for what time is left where the dual's way ends without a plan or with a gap, and after a
crash or a contradiction there, which must not cost the user his plan. It proves nothing of other
places: the bound stays the dual's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from planner.errors import UsageError
from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.ir.solution import Status
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact
from planner.solve.stages.neighbourhoods import improve, search_below

LARGE_SHARE = 0.6
"""Share of the time for the dual's way where single places are small."""
PART_SHARE = 0.5
"""Share of what is left then for each place but the last;"""
FIRST_SHARE = 0.2
"""of that, for plans without streams and groups;"""
WHOLE_SHARE, UNKNOWN_SHARE = 0.6, 0.8
"""of what is left then, for the whole place at once, where a plan is known or not; the rest is for
neighbourhoods."""
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
    """Half of what is left for each place but the last; the incumbent's own comes first."""
    if state.best is not None and state.best.is_uncertain:
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
    """A small model first, where no plan is known: nothing streams, nothing is grouped. Then
    everything at once, and neighbourhoods of what was found."""
    until = monotonic() + limit_s
    single = replace(part, options=tuple(o for o in part.options if len(o.ops) == 1))
    is_covered = {name for option in single.options for name in option.ops} == set(part.ops)
    if state.best is None and is_covered:
        end = monotonic() + FIRST_SHARE * (until - monotonic())
        search_below(state, _resident(single), end, state.seed)
    if state.is_interrupted:
        return
    share = WHOLE_SHARE if state.best is not None else UNKNOWN_SHARE
    end = monotonic() + share * max(until - monotonic(), 0.0)
    if not search_below(state, part, end, state.seed):
        _improve(state, part, until)


def _improve(state: Exact, part: Problem, end: float) -> None:
    """Neighbourhoods, where the incumbent is a plan of this place."""
    if state.best is not None and {s.place for s in state.best.stages} == {part.places[0].name}:
        improve(state, part, end)


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
