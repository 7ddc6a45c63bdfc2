"""Questions about large pipelines; their solver is loaded only where there is one."""

from __future__ import annotations

from planner.ir.problem import Problem


def is_big_pipeline(problem: Problem) -> bool:
    """Whether a problem goes the way of large pipelines."""
    if not problem.places or problem.assignment is not None:
        return False
    from planner.solve.stages.solve import is_big  # most plans are for one device

    return is_big(problem)


def is_refuted(problem: Problem, deadline: float) -> bool:
    """Whether multipliers prove that no plan of a large pipeline keeps its limits; False where
    that stays open or the time ends."""
    from planner.solve.scale.solve import is_refuted_at_all_ends

    return is_refuted_at_all_ends(problem, deadline)
