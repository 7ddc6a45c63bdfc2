"""HiGHS, through SciPy's `milp`: the second opinion when CP-SAT crashes or fails the check.

Why SciPy and not MathOpt? OR-Tools 9.15 builds MathOpt models slowly, rejects thread counts and
cutoffs for HiGHS and silently ignores its callbacks; `milp` takes the arrays as they are and
honours all that is asked of it here: bounds, equality rows, a time limit and a relative gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.sparse import csr_matrix, diags

from planner.solve.backend import Answer, Outcome, Request
from planner.solve.data import BoolArray, FloatArray

PRECISION = 1e-6
"""Relative: HiGHS works in floating point, to this feasibility tolerance."""
_STATUS = {0: Answer.OPTIMAL, 1: Answer.TIME, 2: Answer.INFEASIBLE}


@dataclass(frozen=True, slots=True)
class Highs:
    """HiGHS as bundled with SciPy; serial, deterministic unless time ends it."""

    @property
    def name(self) -> str:
        """`HiGHS` with the version of SciPy that carries it."""
        return f"HiGHS (SciPy {scipy.__version__})"

    def minimise(self, request: Request) -> Outcome:
        """Searches until proof, gap or time; SciPy has no seed, hint or workers to pass on."""
        # Half a second and 15 MB, and only needed where CP-SAT failed.
        from scipy.optimize import Bounds, LinearConstraint, milp

        columns = np.flatnonzero(request.active)
        matrix = csr_matrix(request.program.matrix[:, columns])
        size = np.maximum(abs(matrix).max(axis=1).toarray().ravel(), abs(request.program.rhs))
        scale = 1.0 / np.where(size > 0, size, 1.0)
        upper = request.program.rhs * scale
        lower = np.where(request.program.is_equality, upper, -np.inf)
        costs = request.objective.coefficients[columns]
        unit = request.scale if request.scale > 0 else float(abs(costs).max(initial=0.0)) or 1.0
        result = milp(
            costs / unit,
            integrality=np.ones(len(columns)),
            bounds=Bounds(0.0, 1.0),
            constraints=LinearConstraint(csr_matrix(diags(scale) @ matrix), lower, upper),
            options={"time_limit": request.time_limit_s, "mip_rel_gap": request.gap},
        )
        answer = _STATUS.get(result.status, Answer.FAILED)
        if answer in (Answer.INFEASIBLE, Answer.FAILED):
            return Outcome(answer, bound=np.inf if answer is Answer.INFEASIBLE else -np.inf)
        chosen: BoolArray | None = None
        if result.x is not None:
            chosen = np.zeros(len(request.active), dtype=np.bool_)
            chosen[columns[result.x > 0.5]] = True
        dual = result.mip_dual_bound if result.mip_dual_bound is not None else 0.0
        bound = request.objective.constant + max(dual, 0.0) * unit * (1 - PRECISION)
        return Outcome(answer, chosen, bound, PRECISION)


Terms = Sequence[Sequence[tuple[int, int]]]
"""(column, coefficient) of each row."""


def solve_rows(
    terms: Terms,
    low: Sequence[int],
    high: Sequence[int],
    ranges: FloatArray,
    costs: FloatArray,
    time_limit_s: float,
    gap: float,
) -> tuple[Answer, FloatArray | None, float]:
    """Minimises costs over whole numbers with low <= rows <= high: answer, point and bound.

    Columns of more than two values count as real: an amount cut into 2^24 steps is real to a
    solver with a tolerance of 1e-6, and the bound stays a bound.

    Args:
        ranges: [column, 2], least and largest value.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    least, span = ranges[:, 0], np.maximum(ranges[:, 1] - ranges[:, 0], 1.0)
    starts = np.cumsum([0, *(len(row) for row in terms)])
    columns = np.array([column for row in terms for column, _ in row], dtype=np.int64)
    values = np.array([float(a) for row in terms for _, a in row])
    matrix = csr_matrix((values, columns, starts), shape=(len(terms), len(costs)))
    shift = matrix @ least
    matrix = csr_matrix(matrix @ diags(span))
    most = np.asarray(matrix.maximum(0).sum(axis=1)).ravel()
    fewest = np.asarray(matrix.minimum(0).sum(axis=1)).ravel()
    floor, ceiling = np.array(low) - shift, np.array(high) - shift
    size = np.maximum(most, -fewest)
    size = np.where(size > 0, size, 1.0)
    rows = LinearConstraint(
        csr_matrix(diags(1.0 / size) @ matrix),
        np.where(floor <= fewest, -np.inf, floor / size),
        np.where(ceiling >= most, np.inf, ceiling / size),
    )
    unit = float(abs(costs * span).max(initial=0.0)) or 1.0
    result = milp(
        costs * span / unit,
        integrality=ranges[:, 1] - least <= 1,
        bounds=Bounds(0.0, (ranges[:, 1] - least) / span),
        constraints=rows if len(terms) else None,
        options={"time_limit": time_limit_s, "mip_rel_gap": gap},
    )
    answer = _STATUS.get(result.status, Answer.FAILED)
    dual = result.mip_dual_bound
    bound = -np.inf if dual is None else float(dual) * unit + float(costs @ least)
    point = None if result.x is None else np.asarray(result.x) * span + least
    return answer, point, bound
