"""Linear relaxation of one setting: a bound proved by our own arithmetic, and reduced costs.

For any multipliers y (y_i <= 0 on `<=` rows), every 0/1 point of {A x = or <= b} satisfies
    c·x >= y·b + Σ_j min(0, d_j),     d = c - Aᵀy,
so the solver only proposes y; the bound is computed here from the problem's own numbers. A plan
that uses a column with d_j > 0 costs at least bound + d_j: such columns are left out once that
exceeds the best plan known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack

from planner.solve.data import BoolArray, Data, FloatArray, IntArray
from planner.solve.formulation import Linear, Program
from planner.solve.lp import LinearProgram, Method, NoVertex, minimise

ROUNDING = 1e-9
"""Relative: far above what summing floating-point numbers loses."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A proved lower bound, the reduced cost of each column, and the fractional point behind it."""

    bound: float
    reduced: FloatArray
    duals: FloatArray
    """The multipliers y, one a row."""
    values: FloatArray | None = None


def certified(
    program: Program,
    objective: Linear,
    allowed: BoolArray,
    duals: FloatArray,
    values: FloatArray | None = None,
) -> Relaxation:
    """The bound that some multipliers prove; another setting's are often nearly as good.

    Any multipliers are valid: those of a program with fewer or more rows are padded or cut.
    """
    missing = len(program.rhs) - len(duals)
    duals = np.pad(duals, (0, missing)) if missing > 0 else duals[: len(program.rhs)]
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


@dataclass(frozen=True, slots=True)
class _Normal:
    """Rows brought near one: HiGHS drops coefficients below 1e-9 and works to 1e-7."""

    matrix: csr_matrix
    rhs: FloatArray
    scale: FloatArray
    """Multiplier of each row."""
    is_equality: BoolArray

    def program(self, costs: FloatArray, upper: FloatArray) -> LinearProgram:
        """Over columns from 0 to `upper`."""
        lower = np.zeros(len(upper))
        return LinearProgram(costs, self.matrix, self.rhs, lower, upper, self.is_equality)


def _normal(program: Program, columns: IntArray) -> _Normal:
    matrix = program.matrix[:, columns]
    size = np.maximum(abs(matrix).max(axis=1).toarray().ravel(), abs(program.rhs))
    scale = 1.0 / np.where(size > 0, size, 1.0)
    scaled = csr_matrix(diags(scale) @ matrix)
    return _Normal(scaled, program.rhs * scale, scale, program.is_equality)


def relax(
    program: Program,
    objective: Linear,
    allowed: BoolArray,
    fallback: Relaxation,
    limit_s: float,
    method: Method = Method.CHOOSE,
) -> Relaxation:
    """Solves the relaxation over the allowed columns; the better of its bound and the fallback's.

    The bound is infinite where no point exists, proved by `refutes`.
    """
    columns = np.flatnonzero(allowed).astype(np.int64)
    if not len(columns) or limit_s <= 0:
        return fallback
    rows = _normal(program, columns)
    costs = objective.coefficients[columns]
    unit = float(abs(costs).max()) or 1.0
    upper = np.ones(len(columns))
    vertex = minimise(rows.program(costs / unit, upper), limit_s=limit_s, method=method)
    if isinstance(vertex, NoVertex):
        if not vertex.is_infeasible:
            return fallback
        ray = _ray(rows, limit_s)
        is_refuted = refutes(program, allowed, ray)
        return replace(fallback, bound=np.inf, duals=ray) if is_refuted else fallback
    values = np.zeros(len(allowed))
    values[columns] = vertex.values
    found = certified(program, objective, allowed, vertex.duals * rows.scale * unit, values)
    return found if found.bound > fallback.bound else replace(fallback, values=values)


def refutes(program: Program, allowed: BoolArray, ray: FloatArray) -> bool:
    """Whether multipliers prove that no point exists: the objective 0 gets a bound above 0."""
    nothing = Linear(0.0, np.zeros(len(allowed)))
    proof = certified(program, nothing, allowed, ray)
    terms = float(np.abs(proof.duals * program.rhs).sum() + np.abs(proof.reduced[allowed]).sum())
    return proof.bound > ROUNDING * terms


def _ray(rows: _Normal, limit_s: float) -> FloatArray:
    """Multipliers of the least violation of the `<=` rows: min Σ v, A x - v <= b, v >= 0."""
    less = np.flatnonzero(~rows.is_equality)
    count = rows.matrix.shape[1]
    ones = (-np.ones(len(less)), (less, np.arange(len(less))))
    slack = csr_matrix(ones, shape=(len(rows.rhs), len(less)))
    elastic = replace(rows, matrix=csr_matrix(hstack([rows.matrix, slack])))
    costs = np.concatenate([np.zeros(count), np.ones(len(less))])
    upper = np.concatenate([np.ones(count), np.full(len(less), np.inf)])
    vertex = minimise(elastic.program(costs, upper), limit_s=limit_s)
    return np.zeros(len(rows.rhs)) if isinstance(vertex, NoVertex) else vertex.duals * rows.scale
