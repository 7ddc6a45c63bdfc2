"""HiGHS through its own package against SciPy's, and what it says where there is no optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from planner.solve.lp import LinearProgram, Method, NoVertex, Vertex, minimise


@given(st.integers(0, 10_000), st.integers(0, 6), st.integers(1, 6), st.sampled_from(list(Method)))
def test_optimum_and_multipliers_agree_with_scipy(
    seed: int, rows: int, columns: int, method: Method
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, (rows, columns)).astype(np.float64)
    inside = rng.random(columns)
    is_equality = rng.random(rows) < 0.3
    rhs = matrix @ inside + np.where(is_equality, 0.0, rng.random(rows))
    costs, zeros, ones = rng.standard_normal(columns), np.zeros(columns), np.ones(columns)

    vertex = minimise(LinearProgram(costs, matrix, rhs, zeros, ones, is_equality), method=method)

    assert isinstance(vertex, Vertex)
    less = ~is_equality
    expected = linprog(
        costs,
        A_ub=matrix[less] if less.any() else None,
        b_ub=rhs[less] if less.any() else None,
        A_eq=matrix[is_equality] if is_equality.any() else None,
        b_eq=rhs[is_equality] if is_equality.any() else None,
        bounds=[(0.0, 1.0)] * columns,
    )
    assert vertex.objective == pytest.approx(expected.fun, abs=1e-7)
    assert float(costs @ vertex.values) == pytest.approx(vertex.objective, abs=1e-9)
    reduced = costs - matrix.T @ vertex.duals
    assert (vertex.duals[less] <= 1e-7).all()
    bound = float(vertex.duals @ rhs + np.minimum(reduced, 0.0).sum())
    assert bound == pytest.approx(vertex.objective, abs=1e-6)


def test_no_point_is_called_infeasible() -> None:
    rows = np.array([[1.0], [-1.0]])
    program = LinearProgram(np.ones(1), rows, np.array([1.0, -2.0]), np.zeros(1), np.full(1, 5.0))
    assert minimise(program) == NoVertex(is_infeasible=True)


def test_unbounded_is_not_called_infeasible() -> None:
    free = LinearProgram(-np.ones(1), np.ones((1, 1)), np.ones(1), np.zeros(1), np.full(1, np.inf))
    assert isinstance(minimise(free), Vertex)
    unbounded = LinearProgram(
        -np.ones(1), -np.ones((1, 1)), np.ones(1), np.zeros(1), np.full(1, np.inf)
    )
    assert minimise(unbounded) == NoVertex(is_infeasible=False)


@pytest.mark.parametrize("limit_s", [0.0, -1.0])
def test_no_time_is_a_limit(limit_s: float) -> None:
    rng = np.random.default_rng(0)
    rows, columns = 400, 400
    matrix = rng.random((rows, columns))
    program = LinearProgram(
        -rng.random(columns), matrix, matrix.sum(axis=1) / 3, np.zeros(columns), np.ones(columns)
    )
    assert minimise(program, limit_s=limit_s) == NoVertex(is_infeasible=False)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    minimise(LinearProgram(np.ones(1), np.ones((1, 1)), np.ones(1), np.zeros(1), np.ones(1)))
    assert capfd.readouterr() == ("", "")
