"""`solve_stages`: problems with places, from seeds to the certificate."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from planner.errors import InfoptError
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Reporter
from planner.solve.stages.exact import Exact, certify, search_exactly
from planner.solve.stages.model import HIGH
from planner.solve.stages.rescue import search_guarded

SMALL_COLUMNS = 1_000
"""Choices up to which the whole model is solved at once."""
EXACT_COLUMNS = 6_000
"""Choices up to which the whole model is built at all; above, the dual proves more."""
LARGE_SHARE = 0.8
"""Share of the time in between that all but the whole model gets."""


def solve_stages(
    problem: Problem,
    *,
    time_limit_s: float,
    gap: float,
    seed: int,
    workers: int,
    reporter: Reporter | None,
    known: Sequence[Solution] = (),
) -> Solution:
    """The best pipeline with its certificate; as `planner.solve.solve.solve`."""
    started = monotonic()
    state = Exact(problem, started + time_limit_s, gap, seed, workers, reporter)
    for plan in known:
        if not plan.is_uncertain:
            state.offer(plan.choice, "known plan", 0.0, 0)
    status = Status.UNKNOWN
    try:
        status = _search(state)
    except KeyboardInterrupt:
        state.is_interrupted = True
    is_large = is_big(problem)
    ways = ["dual, cuts and polish"] if is_large or not state.used else []
    solver = " + ".join([*ways, *state.used])
    solution = certify(state, status, monotonic() - started, solver)
    broken = check(problem, solution)
    if broken:
        what = f"{broken[0].constraint}, {broken[0].what}"
        raise InfoptError(f"the checker refuses the answer: {what}")
    return solution


def choices(problem: Problem) -> int:
    """About how many binary columns the whole model has."""
    parts = len(problem.options) * (1 + len(problem.stores)) + len(problem.conversions)
    moves = len(problem.transfers) * problem.stages * len(problem.links)
    return (parts + moves) * problem.stages


def is_big(problem: Problem) -> bool:
    """Whether the whole model is not built."""
    return choices(problem) > EXACT_COLUMNS


def _search(state: Exact) -> Status:
    """Small: the whole model. Large: dual, cuts and swaps. Between: these first, for a plan and a
    bound, then the whole model with what time is left, unless that settled it."""
    count = choices(state.problem)
    if count <= SMALL_COLUMNS:
        return search_exactly(state)
    if count > EXACT_COLUMNS:
        return search_guarded(state)
    end = state.deadline
    state.deadline = monotonic() + LARGE_SHARE * state.remaining_s
    status = search_guarded(state)
    state.deadline, state.hit_time_limit = end, False
    is_one = len(state.problem.objectives) == 1
    if status is Status.INFEASIBLE or (status is Status.OPTIMAL and is_one):
        return status
    if state.is_interrupted:
        return Status.UNKNOWN if state.best is None else Status.FEASIBLE
    if state.end != HIGH:
        state.best, state.values = None, ()
    known = state.bounds[:1] if state.end == HIGH else []
    status = search_exactly(state)
    if known and state.bounds:
        state.bounds[0] = min(max(state.bounds[0], known[0]), state.values[0])
    return status
