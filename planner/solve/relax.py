"""Linear relaxation of one setting: a bound that is proved by our own arithmetic, and reduced costs.

For any multipliers y (y_i <= 0 on `<=` rows), every 0/1 point of {A x = or <= b} satisfies
    c·x >= y·b + Σ_j min(0, d_j),     d = c - Aᵀy,
so the solver only proposes y; the bound is computed here from the problem's own numbers. A plan that
uses a column with d_j > 0 costs at least bound + d_j: such columns are left out once that exceeds the
best plan known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, diags

from planner.solve.data import BoolArray, Data, FloatArray
from planner.solve.formulation import Linear, Program


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A proved lower bound, the reduced cost of each column, and the fractional point behind it."""

    bound: float
    reduced: FloatArray
    duals: FloatArray
    """The multipliers y, one a row."""
    values: FloatArray | None = None
    is_infeasible: bool = False
    """The relaxation says that nothing is feasible; to be proved by the search."""


def certified(
    program: Program,
    objective: Linear,
    allowed: BoolArray,
    duals: FloatArray,
    values: FloatArray | None = None,
) -> Relaxation:
    """The bound that some multipliers prove; another setting's are often nearly as good."""
    duals = np.where(program.is_equality, duals, np.minimum(duals, 0.0))
    reduced = objective.coefficients - program.matrix.T @ duals
    negative = np.minimum(reduced, 0.0)[allowed].sum()
    bound = float(objective.constant + duals @ program.rhs + negative)
    return Relaxation(bound, reduced, duals, values)


def projected(data: Data, program: Program, objective: Linear, allowed: BoolArray) -> Relaxation:
    """Σ_o min_{g∋o} cost[g] / |g|: the bound that needs no solver. The first rows must be C1."""
    duals = np.zeros(len(program.rhs))
    sizes = np.array([len(option.ops) for option in data.problem.options], dtype=np.float64)
    share = objective.coefficients[: data.options] / np.maximum(sizes, 1.0)
    for op, members in enumerate(data.covering):
        shares = [share[g] for g in members if allowed[g]]
        duals[op] = min(shares, default=0.0)
    return certified(program, objective, allowed, duals)


def relax(
    program: Program, objective: Linear, allowed: BoolArray, fallback: Relaxation, limit_s: float
) -> Relaxation:
    """Solves the relaxation over the allowed columns; the better of its bound and the fallback's."""
    columns = np.flatnonzero(allowed)
    if not len(columns) or limit_s <= 0:
        return fallback
    matrix = program.matrix[:, columns]
    # HiGHS drops coefficients below 1e-9 and works to 1e-7: rows and costs are brought near one.
    size = np.maximum(abs(matrix).max(axis=1).toarray().ravel(), abs(program.rhs))
    scale = 1.0 / np.where(size > 0, size, 1.0)
    matrix = csr_matrix(diags(scale) @ matrix)
    rhs = program.rhs * scale
    costs = objective.coefficients[columns]
    unit = float(abs(costs).max()) or 1.0
    equal, less = program.is_equality, ~program.is_equality
    result = linprog(
        costs / unit,
        A_ub=matrix[less] if less.any() else None,
        b_ub=rhs[less] if less.any() else None,
        A_eq=matrix[equal] if equal.any() else None,
        b_eq=rhs[equal] if equal.any() else None,
        bounds=(0.0, 1.0),
        method="highs",
        options={"time_limit": limit_s},
    )
    if result.status == 2:
        return replace(fallback, is_infeasible=True)
    if result.status != 0:
        return fallback
    duals = np.zeros(len(program.rhs))
    if less.any():
        duals[less] = result.ineqlin.marginals
    if equal.any():
        duals[equal] = result.eqlin.marginals
    values = np.zeros(len(allowed))
    values[columns] = result.x
    found = certified(program, objective, allowed, duals * scale * unit, values)
    return found if found.bound > fallback.bound else replace(fallback, values=values)
