"""`solve_stages`: problems with places, from seeds to the certificate."""

from __future__ import annotations

from time import monotonic

from ortools import __version__

from planner.errors import InfoptError
from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Reporter
from planner.solve.stages.exact import Exact, certify, search_exactly


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
        status = search_exactly(state)
    except KeyboardInterrupt:
        state.is_interrupted = True
    solution = certify(state, status, monotonic() - started, f"CP-SAT {__version__}")
    broken = check(problem, solution)
    if broken:
        what = f"{broken[0].constraint}, {broken[0].what}"
        raise InfoptError(f"the checker refuses the answer: {what}")
    return solution
