"""Problems of other forms than one device's: assignments, pipelines, pairwise choice.

Each has a folder that solves it. They are loaded only when such a problem comes (0.3 s, and most
plans are for one device).
"""

from __future__ import annotations

from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.solve.progress import Reporter
from planner.solve.quiet import frozen


def solve_form(
    problem: Problem,
    *,
    time_limit_s: float,
    gap: float,
    seed: int,
    workers: int,
    reporter: Reporter | None,
    known: tuple[Solution, ...],
) -> Solution | None:
    """The answer of the folder that solves problems of this form; None for one device's form.

    Arguments are those of `solve`.

    Raises:
        UsageError: pair costs or holds beside what only other forms heed.
    """
    if problem.assignment is not None:
        from planner.solve.assign.solve import solve_assignment

        return solve_assignment(
            problem,
            time_limit_s=time_limit_s,
            gap=gap,
            seed=seed,
            workers=workers,
            reporter=reporter,
        )
    if problem.places:
        from planner.solve.stages.solve import solve_stages

        with frozen():
            return solve_stages(
                problem,
                time_limit_s=time_limit_s,
                gap=gap,
                seed=seed,
                workers=workers,
                reporter=reporter,
                known=known,
            )
    if not problem.pairs and not any(option.holds for option in problem.options):
        return None
    from planner.solve.pairwise.adapt import has_pairs, solve_adapted

    if not has_pairs(problem):
        return None
    return solve_adapted(problem, time_limit_s=time_limit_s, gap=gap, seed=seed, reporter=reporter)
