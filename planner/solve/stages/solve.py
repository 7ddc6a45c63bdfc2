"""`solve_stages`: problems with places, from seeds to the certificate."""

from __future__ import annotations

from time import monotonic

from ortools import __version__

from planner.errors import InfoptError
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Reporter
from planner.solve.scale.solve import search_large
from planner.solve.stages.exact import Exact, certify, search_exactly

EXACT_COLUMNS = 6_000
"""Choices up to which the whole model is built; above, the dual is faster and proves more."""


def solve_stages(
    problem: Problem,
    *,
    time_limit_s: float,
    gap: float,
    seed: int,
    workers: int,
    reporter: Reporter | None,
) -> Solution:
    """The best pipeline with its certificate; as `planner.solve.solve.solve`."""
    started = monotonic()
    state = Exact(problem, started + time_limit_s, gap, seed, workers, reporter)
    status = Status.UNKNOWN
    try:
        status = _search(state)
    except KeyboardInterrupt:
        state.is_interrupted = True
    solver = f"CP-SAT {__version__}" if is_small(problem) else "dual, cuts and polish"
    solution = certify(state, status, monotonic() - started, solver)
    broken = check(problem, solution)
    if broken:
        what = f"{broken[0].constraint}, {broken[0].what}"
        raise InfoptError(f"the checker refuses the answer: {what}")
    return solution


def is_small(problem: Problem) -> bool:
    """Whether the whole model is given to CP-SAT at once."""
    parts = len(problem.options) * (1 + len(problem.stores)) + len(problem.conversions)
    moves = len(problem.transfers) * problem.stages * len(problem.links)
    return (parts + moves) * problem.stages <= EXACT_COLUMNS


def _search(state: Exact) -> Status:
    return search_exactly(state) if is_small(state.problem) else search_large(state)
