"""The integer program of what messages leave open: equality marginals, memory rows as needed.

    Σ_k x_i(k) = 1,   Σ_l y_e(k, l) = x_a(k),   Σ_k y_e(k, l) = x_b(l),   x binary, 0 <= y <= 1

and Σ use_t(i, k)·x_i(k) <= limit for some moments t (C4); a plan that exceeds another moment adds
it. Costs are shifted by the least of each node and edge, so that none is negative.

Why two solvers? HiGHS solves these in seconds where CP-SAT needs minutes, but in floating point:
on large costs its optimum can be a few units from the true one. So HiGHS finds the value, messages
drop what cannot be cheaper, and CP-SAT proves the rest in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, vstack

from planner.solve.backend import Answer, Request
from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.formulation import Linear, Program
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, blocks, firsts, options_of
from planner.solve.pairwise.decode import cost_of
from planner.solve.pairwise.memory import Memory, memory

PRECISION = 1e-6
"""Relative: HiGHS works in floating point, to this feasibility tolerance."""
MOST_ROWS = 8
"""Memory rows added at once."""
LIMIT = 1e4
"""Right side of a memory row for HiGHS: it allows 1e-6, so 1e-10 of the limit."""
LARGEST_COST = 1e4
"""Of HiGHS's scaled objective."""
_ANSWER = {0: Answer.OPTIMAL, 1: Answer.TIME, 2: Answer.INFEASIBLE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a solver says."""

    answer: Answer
    plan: IntArray | None
    """Within memory at every moment."""
    bound: float
    rounding: float = 0.0
    """Largest relative error of the bound."""


FAILED = Outcome(Answer.FAILED, None, -np.inf)
"""Nothing of it is believed."""


@dataclass(frozen=True, slots=True)
class Marginals:
    """Equalities over the options x (first) and the finite pairs y, and memory rows."""

    problem: Pairwise
    matrix: csr_matrix
    rhs: FloatArray
    costs: FloatArray
    """Shifted: none is negative."""
    constant: int
    """What the shift took away."""
    memory_rows: csr_matrix
    """In bytes."""

    def plan(self, x: FloatArray) -> IntArray:
        """The option of each node with the largest x."""
        begins = pairwise(firsts(self.problem.sizes).tolist())
        return np.array([int(x[start:end].argmax()) for start, end in begins], dtype=np.int64)


Solver = Callable[[Marginals, float, int], Outcome]
"""(program, time limit in seconds, seed) -> outcome, memory checked at the program's rows only."""


def minimise(
    problem: Pairwise, moments: list[int], time_limit_s: float, solver: Solver, seed: int = 0
) -> Outcome:
    """Solves over the given moments, adds those that the answer exceeds, until there are none."""
    deadline = monotonic() + time_limit_s
    held = memory(problem)
    program = marginals(problem)
    known: set[int] = set()
    over = moments if held is not None else []
    bound, rounding = -np.inf, 0.0
    while True:
        program = _with_moments(program, held, [t for t in over if t not in known])
        known.update(over)
        outcome = _ask(solver, program, max(deadline - monotonic(), 0.01), seed)
        if _contradicts_itself(problem, outcome):
            return FAILED
        bound, rounding = max(bound, outcome.bound), max(rounding, outcome.rounding)
        over = _exceeded(held, outcome.plan)
        if not over:
            return Outcome(outcome.answer, outcome.plan, bound, rounding)
        if known.issuperset(over):
            return FAILED  # within the solver's tolerance, not within ours
        if outcome.answer is not Answer.OPTIMAL or monotonic() >= deadline:
            return Outcome(Answer.TIME, None, bound, rounding)


def _ask(solver: Solver, program: Marginals, time_limit_s: float, seed: int) -> Outcome:
    try:
        return solver(program, time_limit_s, seed)
    except Exception:  # noqa: BLE001 - a solver may raise anything; the incumbent is ours
        return FAILED


def _contradicts_itself(problem: Pairwise, outcome: Outcome) -> bool:
    """Whether a plan is forbidden, or cheaper than what is said to be the least."""
    if outcome.plan is None:
        return outcome.answer is Answer.OPTIMAL
    cost = cost_of(problem, outcome.plan)
    return cost is None or outcome.bound > cost + 1 + PRECISION * abs(cost)


def marginals(problem: Pairwise) -> Marginals:
    """The equalities of a problem without forbidden options."""
    options = len(problem.costs)
    is_open = problem.pairs < FORBIDDEN
    column = np.cumsum(is_open) + (options - 1)
    rows = [np.repeat(np.arange(problem.nodes), problem.sizes)]
    columns = [np.arange(options)]
    signs = [np.ones(options)]
    entries, count = firsts(problem.pair_sizes), problem.nodes
    pair_costs, constant = problem.pairs.copy(), 0
    for block in blocks(problem):
        size, m, n = block.matrices.shape
        place = entries[block.edges][:, None] + np.arange(m * n)
        here, pair = is_open[place].reshape(size, m, n), column[place].reshape(size, m, n)
        least = block.matrices.min(axis=(1, 2))
        pair_costs[place] -= least[:, None]
        constant += sum(least.tolist())
        ends = problem.edges[block.edges].T
        for side, width in enumerate((m, n)):
            row = count + np.arange(size * width).reshape(size, width)
            count += size * width
            spread = row[:, :, None] if side == 0 else row[:, None, :]
            own = options_of(problem, ends[side], width)
            rows += [np.broadcast_to(spread, here.shape)[here], row.ravel()]
            columns += [pair[here], own.ravel()]
            signs += [np.ones(int(here.sum())), -np.ones(row.size)]
    least = np.minimum.reduceat(problem.costs, firsts(problem.sizes)[:-1])
    constant += sum(least.tolist())
    own_costs = problem.costs - np.repeat(least, problem.sizes)
    costs = np.concatenate([own_costs, pair_costs[is_open]]).astype(np.float64)
    triplets = np.concatenate(signs), (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_matrix(triplets, shape=(count, len(costs))).tocsr()
    rhs = np.zeros(count)
    rhs[: problem.nodes] = 1.0
    return Marginals(problem, matrix, rhs, costs, constant, csr_matrix((0, len(costs))))


def _with_moments(program: Marginals, held: Memory | None, moments: list[int]) -> Marginals:
    if held is None or not moments:
        return program
    width, rows = len(program.costs), [program.memory_rows]
    for moment in moments:
        options, sizes = held.row(moment)
        place = np.zeros(len(options), dtype=np.int64), options
        # where an option has several holds its bytes add up
        rows.append(coo_matrix((sizes.astype(np.float64), place), shape=(1, width)).tocsr())
    return Marginals(
        program.problem,
        program.matrix,
        program.rhs,
        program.costs,
        program.constant,
        vstack(rows, format="csr"),
    )


def _exceeded(held: Memory | None, plan: IntArray | None) -> list[int]:
    """The worst moments over the limit, one for each different use: a run of equals counts once."""
    if held is None or plan is None:
        return []
    use = held.use(plan)
    _, first = np.unique(use, return_index=True)
    return [int(t) for t in first[::-1][:MOST_ROWS] if use[t] > held.limit]


def ask_highs(program: Marginals, time_limit_s: float, seed: int) -> Outcome:
    """HiGHS through SciPy's `milp`; it takes no seed and is deterministic."""
    # Half a second, and only needed where messages prove too little.
    from scipy.optimize import Bounds, LinearConstraint, milp

    limit = program.problem.limit or 0
    constraints = [LinearConstraint(program.matrix, program.rhs, program.rhs)]
    if program.memory_rows.shape[0]:
        rows = program.memory_rows * (LIMIT / max(limit, 1))
        constraints.append(LinearConstraint(rows, -np.inf, LIMIT if limit else 0.0))
    scale = float(program.costs.max(initial=0.0)) / LARGEST_COST or 1.0
    result = milp(
        program.costs / scale,
        integrality=np.arange(len(program.costs)) < len(program.problem.costs),
        bounds=Bounds(0.0, 1.0),
        constraints=constraints,
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )
    answer = _ANSWER.get(result.status, Answer.FAILED)
    if answer is Answer.INFEASIBLE:
        return Outcome(answer, None, np.inf, PRECISION)
    dual = result.mip_dual_bound
    loss = PRECISION * (abs(dual) + 1) if dual is not None else 0.0
    bound = -np.inf if dual is None else (dual - loss) * scale + program.constant
    plan = None if result.x is None else program.plan(result.x)
    return Outcome(answer, plan, bound, PRECISION)


def ask_cpsat(program: Marginals, time_limit_s: float, seed: int) -> Outcome:
    """CP-SAT: exact where the costs add up to less than 2^52, and says so where not.

    Where its answer comes too late to be waited for, the last plan that it showed is the answer.
    """
    # OR-Tools is loaded by those who need it.
    from planner.solve.cpsat import CpSat

    shown: BoolArray | None = None

    def on_plan(chosen: BoolArray, _: float) -> None:
        nonlocal shown
        shown = chosen

    moments = program.memory_rows.shape[0]
    columns, limit = len(program.costs), float(program.problem.limit or 0)
    matrix = csr_matrix(vstack([program.matrix, program.memory_rows], format="csr"))
    outcome = CpSat().minimise(
        Request(
            program=Program(
                matrix,
                np.append(program.rhs, np.full(moments, limit)),
                np.arange(matrix.shape[0]) < len(program.rhs),
            ),
            objective=Linear(0.0, program.costs),
            active=np.ones(columns, dtype=np.bool_),
            chosen_at_most=program.problem.nodes + len(program.problem.edges),
            cutoff=None,
            hint=None,
            scale=1.0,
            time_limit_s=time_limit_s,
            gap=0.0,
            seed=seed,
            workers=2,
            on_plan=on_plan,
        )
    )
    chosen = shown if outcome.chosen is None and outcome.answer is Answer.TIME else outcome.chosen
    plan = None if chosen is None else program.plan(chosen.astype(np.float64))
    return Outcome(outcome.answer, plan, outcome.bound + program.constant, outcome.rounding)
