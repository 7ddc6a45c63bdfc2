"""The exact program by HiGHS: equality marginals, memory rows as they are needed.

    Σ_k x_i(k) = 1,   Σ_l y_e(k, l) = x_a(k),   Σ_k y_e(k, l) = x_b(l),   x binary, y >= 0

and Σ use_t(i, k)·x_i(k) <= limit for some moments t; a plan that exceeds another moment adds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, vstack

from planner.solve.backend import Answer
from planner.solve.data import FloatArray, IntArray
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, blocks, firsts, options_of
from planner.solve.pairwise.memory import Memory, memory

PRECISION = 1e-6
"""Relative: HiGHS works in floating point, to this feasibility tolerance."""
MOST_ROWS = 8
"""Memory rows added at once."""
LIMIT = 1e4
"""Right side of a memory row: HiGHS allows 1e-6, so 1e-10 of the limit."""
LARGEST_COST = 1e4
"""Of the scaled objective."""
_ANSWER = {0: Answer.OPTIMAL, 1: Answer.TIME, 2: Answer.INFEASIBLE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What HiGHS says."""

    answer: Answer
    plan: IntArray | None
    """Within memory at every moment."""
    bound: float


@dataclass(slots=True)
class _Program:
    """Equalities of x (first) and y."""

    matrix: csr_matrix
    rhs: FloatArray
    costs: FloatArray
    options: int


def minimise(problem: Pairwise, moments: list[int], time_limit_s: float) -> Outcome:
    """Solves to optimality over the given moments, adds those exceeded, again, until none is."""
    deadline = monotonic() + time_limit_s
    held = memory(problem)
    program = _program(problem)
    known = set(moments)
    rows = [_memory_row(held, t, len(program.costs)) for t in moments] if held else []
    bound = -np.inf
    while True:
        outcome = _ask(problem, program, rows, deadline - monotonic())
        bound = max(bound, outcome.bound)
        if outcome.plan is None or held is None:
            return Outcome(outcome.answer, outcome.plan, bound)
        over = _exceeded(held, outcome.plan)
        if not over:
            return Outcome(outcome.answer, outcome.plan, bound)
        if known.issuperset(over):
            return Outcome(Answer.FAILED, None, bound)  # within HiGHS's tolerance, not within ours
        if outcome.answer is not Answer.OPTIMAL or monotonic() >= deadline:
            return Outcome(Answer.TIME, None, bound)
        rows += [_memory_row(held, t, len(program.costs)) for t in over if t not in known]
        known.update(over)


def _program(problem: Pairwise) -> _Program:
    options = len(problem.costs)
    is_open = problem.pairs < FORBIDDEN
    column = np.cumsum(is_open) + (options - 1)
    rows = [np.repeat(np.arange(problem.nodes), problem.sizes)]
    columns = [np.arange(options)]
    signs = [np.ones(options)]
    entries, count = firsts(problem.pair_sizes), problem.nodes
    for block in blocks(problem):
        size, m, n = block.matrices.shape
        place = entries[block.edges][:, None] + np.arange(m * n)
        here, pair = is_open[place].reshape(size, m, n), column[place].reshape(size, m, n)
        ends = problem.edges[block.edges].T
        for side, width in enumerate((m, n)):
            row = count + np.arange(size * width).reshape(size, width)
            count += size * width
            spread = row[:, :, None] if side == 0 else row[:, None, :]
            own = options_of(problem, ends[side], width)
            rows += [np.broadcast_to(spread, here.shape)[here], row.ravel()]
            columns += [pair[here], own.ravel()]
            signs += [np.ones(int(here.sum())), -np.ones(row.size)]
    costs = np.concatenate([problem.costs, problem.pairs[is_open]]).astype(np.float64)
    triplets = np.concatenate(signs), (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_matrix(triplets, shape=(count, len(costs))).tocsr()
    rhs = np.zeros(count)
    rhs[: problem.nodes] = 1.0
    return _Program(matrix, rhs, costs, options)


def _memory_row(held: Memory, moment: int, width: int) -> csr_matrix:
    options, sizes = held.row(moment)
    triplets = (
        sizes * (LIMIT / max(held.limit, 1)),
        (np.zeros(len(options), dtype=np.int64), options),
    )
    return coo_matrix(triplets, shape=(1, width)).tocsr()


def _exceeded(held: Memory, plan: IntArray) -> list[int]:
    """The worst moments over the limit, one for each different use: a run of equals counts once."""
    use = held.use(plan)
    _, first = np.unique(use, return_index=True)
    return [int(t) for t in first[::-1][:MOST_ROWS] if use[t] > held.limit]


def _ask(
    problem: Pairwise, program: _Program, rows: list[csr_matrix], time_limit_s: float
) -> Outcome:
    # Half a second, and only needed where messages prove too little.
    from scipy.optimize import Bounds, LinearConstraint, milp

    constraints = [LinearConstraint(program.matrix, program.rhs, program.rhs)]
    if rows:
        constraints.append(LinearConstraint(vstack(rows, format="csr"), -np.inf, LIMIT))
    scale = float(np.abs(program.costs).max(initial=0.0)) / LARGEST_COST or 1.0
    result = milp(
        program.costs / scale,
        integrality=np.arange(len(program.costs)) < program.options,
        bounds=Bounds(0.0, 1.0),
        constraints=constraints,
        options={"time_limit": max(time_limit_s, 0.01), "mip_rel_gap": 0.0},
    )
    answer = _ANSWER.get(result.status, Answer.FAILED)
    if answer is Answer.INFEASIBLE:
        return Outcome(answer, None, np.inf)
    bound = -np.inf if result.mip_dual_bound is None else result.mip_dual_bound * scale
    plan = None
    if result.x is not None:
        begins = firsts(problem.sizes)
        plan = np.array(
            [int(result.x[s:e].argmax()) for s, e in pairwise(begins.tolist())],
            dtype=np.int64,
        )
    return Outcome(answer, plan, bound - PRECISION * abs(bound))
