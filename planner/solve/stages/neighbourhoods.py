"""Better plans of one place by large neighbourhoods: most of a plan stays, the rest is solved anew.

What is free in turn: formats with all streams as they are; streams with all formats as they are; or
some operators in a row with everything. The first two are the steps of planning one family after
another, so that no such step improves the plan that is left. (Shaw, CP 1998.)
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from time import monotonic

from planner.errors import InfoptError
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution, Status
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact, search_exactly

FIRST_OPS, LEAST_OPS = 8, 4
"""Operators in a row that are free, to start with and at least."""
TURN_S = 2.0
"""Seconds of one neighbourhood; those of a family grow where they are not searched through."""
GROWTH = 1.3
NEAR_SHARE = 0.4
"""Share of a turn for the dual's way."""
BETTER = 1e-6
"""Relative: what is worth finding."""


def improve(state: Exact, part: Problem, until: float) -> None:
    """Neighbourhoods of the incumbent, a plan of the part, in turn until the time."""
    rng = random.Random(state.seed)
    size = float(FIRST_OPS)
    turn, family_s = 0, TURN_S
    while state.best is not None and monotonic() < until and not state.is_interrupted:
        kind = turn % 4
        turn += 1
        if kind == 0:
            free = _formats_free(part, state.best)
        elif kind == 1 and part.stores:
            free = _streams_free(part, state.best)
        else:
            free = _row_free(part, state.best, round(size), rng)
        seed = rng.randrange(2**30)
        end = min(until, monotonic() + (TURN_S if kind >= 2 else family_s))
        _search_near(state, free, monotonic() + NEAR_SHARE * (end - monotonic()), seed)
        is_done = search_below(state, free, end, seed)
        if kind >= 2:
            size = max(size * (GROWTH if is_done else 1 / GROWTH), LEAST_OPS)
        elif not is_done:
            family_s *= GROWTH


def search_below(state: Exact, part: Problem, until: float, seed: int) -> bool:
    """Looks for a plan of a part of the problem that is certain and better than the incumbent;
    whether the part was searched through."""
    found = Exact(part, until, state.gap, seed, state.workers, is_certain=True)
    if state.best is not None:
        found.cutoff = state.values[0] - max(BETTER * abs(state.values[0]), 1e-12)
    status = search_exactly(found)
    _take(state, found)
    is_done = status in (Status.OPTIMAL, Status.INFEASIBLE)
    state.is_clocked |= not is_done
    return is_done


def _search_near(state: Exact, part: Problem, until: float, seed: int) -> None:
    """Cuts and moves: quick where memory is not too tight."""
    found = Exact(part, until, state.gap, seed, state.workers)
    if state.best is not None:
        found.offer(state.best, "known plan", 0.0, 0)
    try:
        search_large(found)
    except InfoptError:
        return  # a bound that contradicts a plan: nothing of it is used
    _take(state, found)


def _take(state: Exact, found: Exact) -> None:
    """What a search of a part found, if it is certain."""
    state.is_interrupted |= found.is_interrupted
    for name in found.used:
        state.used.setdefault(f"{name} on one place")
    if found.best is not None and not found.best.is_uncertain:
        bound = state.bounds[0] if state.bounds else -math.inf
        state.offer(found.best, "neighbourhoods of one place", bound, 0)


def _stored(plan: Solution) -> dict[str, str]:
    return {name: store for stage in plan.stages for name, store in stage.stored}


def _streams_of_ops(problem: Problem, plan: Solution) -> dict[str, str]:
    """The store of each operator whose weights stream."""
    options = {option.name: option for option in problem.options}
    return {op: store for name, store in _stored(plan).items() for op in options[name].ops}


def _formats_free(problem: Problem, plan: Solution) -> Problem:
    """Every option, streaming only where the plan does."""
    streams = _streams_of_ops(problem, plan)
    return replace(problem, options=tuple(_bound(option, streams) for option in problem.options))


def _bound(option: Option, streams: dict[str, str]) -> Option:
    """An option that may stream only from where its operators do."""
    allowed = tuple(dict.fromkeys(streams[op] for op in option.ops if op in streams))
    if option.stores is not None:
        allowed = tuple(name for name in allowed if name in option.stores)
    return option if option.stores == allowed else replace(option, stores=allowed)


def _streams_free(problem: Problem, plan: Solution) -> Problem:
    """Options of the plan's formats, streaming from wherever they can."""
    options = {option.name: option for option in problem.options}
    formats = {op: options[name].format for name in plan.chosen for op in options[name].ops}
    kept = [o for o in problem.options if o.format == formats[o.ops[0]]]
    return replace(problem, options=tuple(kept), forbidden=_left(problem, kept))


def _row_free(problem: Problem, plan: Solution, size: int, rng: random.Random) -> Problem:
    """Some operators in a row free, the others as they are."""
    start = rng.randrange(max(len(problem.ops) - size, 0) + 1)
    row = set(problem.ops[start : start + size])
    chosen, streams = set(plan.chosen), _streams_of_ops(problem, plan)
    kept = []
    for option in problem.options:
        if row.issuperset(option.ops):
            kept.append(option)
        elif option.name in chosen:
            kept.append(_bound(option, streams))
    return replace(problem, options=tuple(kept), forbidden=_left(problem, kept))


def _left(problem: Problem, options: list[Option]) -> tuple[frozenset[str], ...]:
    """Forbidden sets whose options are all still there."""
    names = {option.name for option in options}
    return tuple(cut for cut in problem.forbidden if cut <= names)
