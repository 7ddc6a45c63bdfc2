"""Linear programs by HiGHS, through its own Python package.

SciPy carries HiGHS too, but loading `scipy.optimize` takes twenty times as long as `highspy` (0.4 s
of a warm plan's 3 s) and each call of its `linprog` spends a millisecond on checks.

Source: Q. Huangfu, J. A. J. Hall, Parallelizing the dual revised simplex method, Mathematical
Programming Computation 10, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import highspy
import numpy as np
from scipy.sparse import csr_matrix

from planner.solve.data import BoolArray, FloatArray


class Method(StrEnum):
    """HiGHS's names."""

    CHOOSE = "choose"
    INTERIOR = "ipm"
    """With crossover."""


@dataclass(frozen=True, slots=True)
class LinearProgram:
    """min costs·x subject to matrix x <= or = rhs, lower <= x <= upper."""

    costs: FloatArray
    matrix: csr_matrix | FloatArray
    """[row, column]"""
    rhs: FloatArray
    lower: FloatArray
    """-inf where there is none."""
    upper: FloatArray
    """inf where there is none."""
    is_equality: BoolArray | None = None
    """Rows that hold with equality; the others, or all by default, are `<=`."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """An optimal point."""

    values: FloatArray
    objective: float
    duals: FloatArray
    """Multipliers of the rows; at most 0 on `<=` rows, but for the solver's tolerance."""


@dataclass(frozen=True, slots=True)
class NoVertex:
    """Why there is no optimal point."""

    is_infeasible: bool
    """The solver's word, without proof. False: unbounded, out of time, or the solver gave up."""


def minimise(
    program: LinearProgram, *, limit_s: float = np.inf, method: Method = Method.CHOOSE
) -> Vertex | NoVertex:
    """Solves one program; the same program gives the same vertex.

    Args:
        limit_s: seconds after which the solver gives up.
    """
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("solver", str(method))
    solver.setOptionValue("time_limit", max(limit_s, 0.0))  # less is refused, and then ignored
    solver.passModel(_model(program))
    solver.run()
    status = solver.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        return NoVertex(_refuses(status, program))
    found = solver.getSolution()
    objective = float(solver.getInfo().objective_function_value)
    return Vertex(np.array(found.col_value), objective, np.array(found.row_dual))


def _refuses(status: highspy.HighsModelStatus, program: LinearProgram) -> bool:
    """Whether the solver says that no point exists.

    Presolve may stop at "unbounded or infeasible": with bounds on all columns only one is left.
    """
    if status == highspy.HighsModelStatus.kUnboundedOrInfeasible:
        return bool(np.isfinite(program.lower).all() and np.isfinite(program.upper).all())
    return bool(status == highspy.HighsModelStatus.kInfeasible)


def _model(program: LinearProgram) -> highspy.HighsLp:
    rows = csr_matrix(program.matrix)
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = rows.shape
    model.col_cost_ = np.asarray(program.costs, np.float64)
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_ = np.full(rows.shape[0], -np.inf)
    if program.is_equality is not None:
        model.row_lower_ = np.where(program.is_equality, program.rhs, -np.inf)
    model.row_upper_ = np.asarray(program.rhs, np.float64)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = rows.shape
    model.a_matrix_.start_ = rows.indptr
    model.a_matrix_.index_ = rows.indices
    model.a_matrix_.value_ = np.asarray(rows.data, np.float64)
    return model
