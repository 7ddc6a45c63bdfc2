"""Where the way for large pipelines crashes or contradicts itself: CP-SAT on one place.

A plan of one stage is a plan; whole models of single places, resident weights first, are small
enough for CP-SAT where the whole of the problem is not. Nothing is bounded by them: the status is
`feasible` with what gap there is, or `unknown`.
"""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

from planner.errors import UsageError
from planner.ir.devices import Place
from planner.ir.problem import Problem
from planner.ir.solution import Status
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact, search_exactly


def search_guarded(state: Exact) -> Status:
    """`search_large`; whatever it raises, plans are still looked for."""
    try:
        return search_large(state)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug there must not cost the user his plan
        state.used.setdefault(f"single places, after {type(error).__name__} in the dual")
        state.bounds = []
        return _one_place(state)


def _one_place(state: Exact) -> Status:
    """Whole models of single places, by price, until a plan is found; then the others."""
    problem = state.problem
    devices = {device.name: device for device in problem.devices}
    places = sorted(
        problem.places, key=lambda p: (devices[p.device].price_per_hour * p.degree, p.name)
    )
    tries = [(place, stores) for stores in (False, True) for place in places]
    for number, (place, is_streaming) in enumerate(tries):
        if state.must_stop or state.remaining_s <= 0:
            break
        alone = _alone(problem, place, is_streaming=is_streaming)
        if alone is None or (is_streaming and not problem.stores):
            continue
        until = monotonic() + state.remaining_s / (len(tries) - number)
        part = Exact(alone, until, state.gap, state.seed, state.workers, None)
        search_exactly(part)
        state.is_interrupted |= part.is_interrupted
        if part.best is not None:
            state.offer(part.best, "CP-SAT on one place", 0.0, 0)
    state.hit_time_limit |= state.remaining_s <= 0
    return Status.FEASIBLE if state.best is not None else Status.UNKNOWN


def _alone(problem: Problem, place: Place, *, is_streaming: bool) -> Problem | None:
    """The problem at one place; None where an operator cannot run there."""
    options = tuple(o for o in problem.options if o.place in (None, place.name))
    if {name for option in options for name in option.ops} != set(problem.ops):
        return None
    stores = problem.stores if is_streaming else ()
    known = {store.name for store in stores}
    kept = tuple(
        option
        if option.stores is None
        else replace(option, stores=tuple(name for name in option.stores if name in known))
        for option in options
    )
    names = {option.name for option in options}
    return replace(
        problem,
        options=kept,
        conversions=tuple(c for c in problem.conversions if c.place in (None, place.name)),
        places=(place,),
        stages=1,
        stores=stores,
        transfers=(),
        forbidden=tuple(cut for cut in problem.forbidden if cut <= names),
        pairs=problem.pairs if len(options) == len(problem.options) else (),
    )
